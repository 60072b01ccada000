"""The real command as a process of its own, in a situation that is real as well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testlib.require import require

LIMIT_S = 90.0

NOBODY = (
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    # It may read everything, and nothing else: the interpreter may be in a home that is closed.
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
    "--",
)
"""Put before a command: a user without any right but to read."""


@dataclass(frozen=True)
class CompletedCommand:
    """A process that has ended."""

    code: int
    out: str
    err: str

    def message(self) -> str:
        """The one message that says what is wrong.

        Raises:
            AssertionError: there is none, or more than one, or a traceback.
        """
        assert "Traceback" not in self.err + self.out, self
        messages = [line for line in self.err.splitlines() if line.startswith("otel-oom: ")]
        assert len(messages) == 1, self
        return messages[0]


def clean_environ() -> dict[str, str]:
    """The environment without the variables that the command obeys."""
    obeyed = ("OTEL_", "STATE_DIRECTORY", "NOTIFY_SOCKET", "PYTHON")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(obeyed) and not name.lower().endswith("_proxy")
    }


def run_otel_oom(
    *words: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
    stdout: int = subprocess.PIPE,
) -> CompletedCommand:
    """Run `otel-oom` with ``words``, as the last argument of the command ``prefix``."""
    return run_command([*prefix, sys.executable, "-m", "otel_oom", *words], env, cwd, stdout)


def run_command(
    command: Sequence[str | os.PathLike[str]],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int = subprocess.PIPE,
    limit_s: float = LIMIT_S,
) -> CompletedCommand:
    """Run ``command`` to its end."""
    done = subprocess.run(
        command,
        env={**clean_environ(), **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=limit_s,
        check=False,
    )
    out = done.stdout.decode("utf-8", "replace") if done.stdout else ""
    return CompletedCommand(done.returncode, out, done.stderr.decode("utf-8", "replace"))


def mount_namespace(*commands: str) -> tuple[str, ...]:
    """Put before a command: mounts of its own, changed by these shell commands.

    Nothing of it is seen outside, and it is gone when the command ends.
    """
    require(os.geteuid() == 0, "mounts of one's own need root")
    own = ("unshare", "--mount", "--propagation", "private", "--")
    require(run_command([*own, "true"]).code == 0, "no mounts of one's own are allowed here")
    return (*own, "sh", "-c", " && ".join((*commands, 'exec "$@"')), "sh")
