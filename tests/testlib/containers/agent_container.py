"""The agent in a container, by the command of docs/install.md."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux.process import ProcessDir
from otel_oom.linux.rights import BPFFS
from tests.testlib.containers.image import AGENT_IMAGE
from tests.testlib.repository import REPOSITORY
from tests.testlib.wait import wait_until

_DOCUMENT: Final = REPOSITORY / "docs/install.md"
_NAME: Final = "otel-oom"
_IMAGE: Final = "localhost/otel-oom"
_READY_S: Final = 60.0
_CAP_SYS_RESOURCE: Final = 24


@dataclass(frozen=True)
class AgentContainer:
    """A running container; ``engine`` is the command of its runtime."""

    engine: Sequence[str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the runtime, such as ``exec``; return what became of it."""
        return subprocess.run(
            [*self.engine, *words],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_READY_S,
        )

    def inspect(self, template: str) -> str:
        """Return a field by a template of the runtime's, such as ``{{.State.Pid}}``."""
        return self.run("inspect", f"--format={template}", _NAME).stdout.strip()

    @property
    def pid(self) -> int:
        """Return the agent's process id on the host."""
        return int(self.inspect("{{.State.Pid}}"))

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return self.run("exec", _NAME, *command)

    def log_text(self) -> str:
        """Return the agent's log."""
        return self.run("logs", _NAME).stdout


def read_documented_command(start: str) -> list[str]:
    """Return the words of the command of the document that begins so, less `sudo podman`."""
    text = _DOCUMENT.read_text(encoding="utf-8")
    (block,) = (
        each for each in text.split("```")[1::2] if each.startswith(f"\nsudo podman {start}")
    )
    return shlex.split(block.replace("\\\n", " "))[2:]


@contextmanager
def run_agent_container(
    engine: Sequence[str],
    endpoint: str,
    *options: str,
    bpffs: Path = BPFFS,
    without: Sequence[str] = (),
) -> Iterator[AgentContainer]:
    """Run the documented command; yield once the agent captures and knows the runtimes.

    Args:
        engine: the command of the runtime.
        endpoint: the receiver.
        options: further options of the runtime.
        bpffs: the folder that is the container's.
        without: documented options that are left out.
    """
    agent = AgentContainer(engine)
    words = list(adapt_command(read_documented_command("run --detach"), endpoint, bpffs, without))
    index = words.index(AGENT_IMAGE)
    try:
        started = agent.run(*words[:index], *options, *words[index:])
        assert started.returncode == 0, started.stdout
        wait_until(
            lambda: "Watching for containers" in agent.log_text(), "the agent", limit=_READY_S
        )
        yield agent
    finally:
        sys.stdout.write(agent.log_text())
        agent.run("rm", "--force", _NAME)
        # It belongs to the user of this container.
        agent.run("volume", "rm", "--force", _NAME)


def adapt_command(
    words: Sequence[str], endpoint: str, bpffs: Path, without: Sequence[str]
) -> Iterator[str]:
    """Yield the words with the image and the receiver of the tests, and what this host forbids."""
    resource = can_raise_limits()
    for word in words:
        if word == _IMAGE:
            yield AGENT_IMAGE
        elif word == f"--volume={BPFFS}:{BPFFS}":
            yield f"--volume={bpffs}:{BPFFS}"
        elif word.startswith("--env=OTEL_EXPORTER_OTLP_ENDPOINT="):
            yield f"--env=OTEL_EXPORTER_OTLP_ENDPOINT={endpoint}"
        elif not resource and word.startswith(("--oom-score-adj=", "--ulimit=memlock=")):
            # Nor may it set podman's defaults, which are above its own limits.
            name = "nofile" if "memlock" in word else "nproc"
            yield f"--ulimit={name}=1024:1024"
        # It would outlive an interrupted test.
        elif word not in {*without, "--restart=always"}:
            yield word


def can_raise_limits() -> bool:
    """Return whether containers can have limits and scores beyond those of this process."""
    status = ProcessDir("self").read_status()
    return status is not None and bool(status.effective_capabilities >> _CAP_SYS_RESOURCE & 1)
