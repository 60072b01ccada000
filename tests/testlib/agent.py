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
    """An agent that is running; ``log`` is what it writes to stderr."""

    process: subprocess.Popen[bytes]
    state_dir: Path
    log: Path
    manager: socket.socket
    """Where the service manager listens (``$NOTIFY_SOCKET``)."""

    def log_text(self) -> str:
        """Its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_until_watching(self) -> None:
        """Wait until it knows the containers that run, and where others will be."""
        wait_until(lambda: "Watching for containers" in self.log_text(), "its watch", limit=READY_S)

    def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = 15.0) -> int:
        """Send it a signal and wait; its exit code."""
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
) -> Iterator[Agent]:
    """`otel-oom run` with its state in ``folder``, yielded once it has said READY=1.

    ``prefix`` is what it is started by. Without ``history`` it does not tell what this machine
    has killed before; without a ``pin_dir`` it leaves nothing behind in the kernel.

    Of the caller's environment it gets no ``OTEL_*`` variable but those in ``environ``.
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
            stderr=log,
        )
        running = Agent(process, folder / "state", folder / "agent.log", manager)
        try:
            if ready:
                assert manager.recv(4096) == b"READY=1", running.log_text()
            yield running
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
