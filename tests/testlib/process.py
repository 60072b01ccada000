"""Real servers as child processes, which never outlive the tests."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.testlib.wait import wait_until

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 60.0
"""Seconds a server may take to start; a busy machine takes ten times as long as an idle one."""
STOP_TIMEOUT_S = 8.0
"""Seconds a server may take to stop after SIGTERM."""

_reservations: list[socket.socket] = []


class ServerError(RuntimeError):
    """A server did not start, or died; the message ends with the end of its log."""


@dataclass(frozen=True)
class ServerProcess:
    """A server that has started."""

    name: str
    folder: Path
    """Its working folder."""
    log: Path
    """Its standard output and error."""
    child: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self.child.pid

    def output(self) -> str:
        """Return all that it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Stop it by SIGTERM, after ``timeout_s`` by SIGKILL; return its exit code."""
        self.child.terminate()
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """Kill it by SIGKILL, as the OOM killer would; return its exit code."""
        self.child.kill()
        return self.child.wait(STOP_TIMEOUT_S)


@contextmanager
def run_server(  # noqa: PLR0913  each is named at the call
    name: str,
    command: Sequence[str | os.PathLike[str]],
    *,
    folder: Path,
    ready: Callable[[ServerProcess], bool],
    env: Mapping[str, str] | None = None,
    limit: float = START_TIMEOUT_S,
) -> Iterator[ServerProcess]:
    """Start a server, yield it once it is ready, and stop it at the end.

    Its environment is ``env``, PATH and HOME (the folder): a proxy or an OTEL_* variable of the
    caller changes no test. The kernel kills it if the calling thread ends without leaving the
    context (`setpriv`).

    Args:
        name: for messages, and the file name of its log.
        command: the program, by its path, and its arguments.
        folder: an existing folder, the server's working folder. A test that restarts a server
            passes the same one again; the log is appended to.
        ready: called until it returns True.
        env: variables for the server.
        limit: seconds until it must be ready.

    Raises:
        ServerError: it ended before it was ready, or was not ready in time.
    """
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder), **(env or {})}
    log = folder / f"{name}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C goes to the test runner, which then stops the servers
        )
    process = ServerProcess(name, folder, log, child)
    try:
        _wait_until_ready(process, ready, limit)
        yield process
    finally:
        process.stop()


def free_port() -> int:
    """Return a free TCP port of 127.0.0.1, and reserve it until this process ends.

    It is below the range from which the kernel picks ports for outgoing connections, so that
    none of those gets it before the server binds it. No other process that calls this function
    gets it, so that tests can run beside each other.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            # An abstract socket belongs to the same network namespace as the port. The kernel
            # gives its name to one process only, until that process ends.
            reservation.bind(f"\0otel-oom-tests-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((LOOPBACK, port))
        except OSError:
            reservation.close()
        else:
            _reservations.append(reservation)
            return port


def _wait_until_ready(
    process: ServerProcess, ready: Callable[[ServerProcess], bool], limit: float
) -> None:
    def probe() -> bool:
        code = process.child.poll()
        if code is not None:
            raise ServerError(_describe_failure(process, f"ended with {code} before it was ready"))
        return ready(process)

    try:
        wait_until(probe, process.name, limit=limit)
    except TimeoutError:
        raise ServerError(_describe_failure(process, f"was not ready within {limit:g} s")) from None


def _describe_failure(process: ServerProcess, what: str, line_count: int = 30) -> str:
    tail = "\n".join(process.output().splitlines()[-line_count:])
    return f"{process.name} {what}; the end of its log:\n{tail}"
