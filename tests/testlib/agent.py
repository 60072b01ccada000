"""The real agent as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testlib.wait import wait_until

READY_S = 30.0
AGENT_COMMAND = (sys.executable, "-m", "otel_oom", "run")


@dataclass(frozen=True)
class Agent:
    """A running agent; ``log`` is the file that has its stderr."""

    process: subprocess.Popen[bytes]
    state_dir: Path
    log: Path
    manager: socket.socket
    """The socket of the service manager (``$NOTIFY_SOCKET``)."""

    def log_text(self) -> str:
        """Return its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_until_watching(self) -> None:
        """Wait until it knows the running containers, and the folders of later ones."""
        wait_until(lambda: "Watching for containers" in self.log_text(), "its watch", limit=READY_S)

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = 15.0) -> int:
        """Send a signal to it, wait for its end, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


@contextmanager
def run_agent(  # noqa: PLR0913  each is named at the call
    folder: Path,
    environ: Mapping[str, str],
    *arguments: str,
    ready: bool = True,
    history: bool = False,
    prefix: Sequence[str] = (),
    pin_dir: Path | None = None,
    stderr: int | None = None,
) -> Iterator[Agent]:
    """Run `otel-oom run` with its state in ``folder``; yield once it has sent READY=1.

    Args:
        folder: gets the agent's state and its log.
        environ: added to this process's environment, less all its ``OTEL_*`` variables.
        arguments: further options.
        ready: False to yield at once.
        history: True to capture the kills of this boot from before the start.
        prefix: the command that runs the agent's.
        pin_dir: the folder of the pins; without one nothing stays in the kernel.
        stderr: a descriptor that gets the log in place of its file.
    """
    pinning = ["--pin-dir", pin_dir] if pin_dir else ["--no-pin"]
    notify = folder / "notify"
    notify.unlink(missing_ok=True)
    if not history:
        arguments = ("--no-history", *arguments)
    plain = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        (folder / "agent.log").open("ab") as log,
    ):
        manager.bind(str(notify))
        notify.chmod(0o777)
        manager.settimeout(READY_S)
        process = subprocess.Popen(
            [*prefix, *AGENT_COMMAND, "--state-dir", folder / "state", *pinning, *arguments],
            env={**plain, "NOTIFY_SOCKET": str(notify), **environ},
            stderr=log if stderr is None else stderr,
        )
        agent = Agent(process, folder / "state", folder / "agent.log", manager)
        try:
            if ready:
                assert manager.recv(4096) == b"READY=1", agent.log_text()
            yield agent
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
