"""The real `otel-oom` command as a process of its own."""

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
    # The interpreter may be in a home that is closed to other users.
    "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search",
    "--bounding-set=-all,+dac_read_search",
    "--",
)
"""A command prefix: a user whose only capability is to read every file."""


@dataclass(frozen=True)
class CompletedCommand:
    """A process that has ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    def error_message(self) -> str:
        """Return the one error message that it printed.

        Raises:
            AssertionError: there is none, or more than one, or a traceback.
        """
        assert "Traceback" not in self.err + self.out, self
        messages = [line for line in self.err.splitlines() if line.startswith("otel-oom: ")]
        assert len(messages) == 1, self
        return messages[0]


def clean_environ() -> dict[str, str]:
    """Return the environment without the variables that the command reads."""
    ignored = ("OTEL_", "STATE_DIRECTORY", "NOTIFY_SOCKET", "PYTHON", "COLUMNS")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ignored) and not name.lower().endswith("_proxy")
    }


def run_otel_oom(
    *words: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
    stdout: int = subprocess.PIPE,
) -> CompletedCommand:
    """Run `otel-oom` with ``words`` to its end, by the command ``prefix`` if there is one."""
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
    """Return a command prefix: a mount namespace, in which shell ``commands`` run first."""
    require(os.geteuid() == 0, "a mount namespace needs root")
    unshare = ("unshare", "--mount", "--propagation", "private", "--")
    require(run_command([*unshare, "true"]).code == 0, "mount namespaces are not allowed here")
    return (*unshare, "sh", "-c", " && ".join((*commands, 'exec "$@"')), "sh")
