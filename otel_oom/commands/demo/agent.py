"""The agent of the demonstration, in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_READY_S: Final = 20.0
_READY_STEP_S: Final = 0.1
_STOP_S: Final = 10.0
_DESTINATION: Final = (
    *("OTEL_EXPORTER_OTLP_", "OTEL_SDK_DISABLED"),
    *("OTEL_LOGS_EXPORTER", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_CONFIG_FILE"),
)


class DemoError(Exception):
    """The demonstration failed; the message says where, and what to look at."""


@contextmanager
def running_agent(folder: Path, endpoint: str) -> Iterator[None]:
    """Run an agent that is ready to capture, and that sends to ``endpoint``.

    Raises DemoError if it ended, or was not ready in time.
    """
    notify_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify_socket.bind(str(folder / "notify"))
    notify_socket.settimeout(_READY_STEP_S)
    environ = {k: v for k, v in os.environ.items() if not k.startswith(_DESTINATION)} | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "NOTIFY_SOCKET": str(folder / "notify"),
        # A proxy of the host does not reach our own receiver.
        "no_proxy": "*",
    }
    # By libbpf: the kernel log alone would capture too, with fewer fields.
    options = ("--source", "libbpf", "--no-pin", "--state-dir", folder / "state")
    agent = subprocess.Popen([sys.executable, "-m", "otel_oom", "run", *options], env=environ)
    with notify_socket:
        try:
            _await_ready(agent, notify_socket)
            yield
        finally:
            agent.send_signal(signal.SIGTERM)
            try:
                agent.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()


def _await_ready(agent: subprocess.Popen[bytes], notify_socket: socket.socket) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with suppress(TimeoutError):
            if b"READY=1" in notify_socket.recv(4096):
                return
        if agent.poll() is not None:
            raise DemoError(
                f"The agent ended with exit code {agent.returncode} before it was ready; "
                "its messages are above."
            )
    raise DemoError(
        f"The agent was not ready within {_READY_S:.0f} s; its messages are above, if any."
    )
