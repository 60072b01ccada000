"""Run a real server as a child process, and never leave one behind."""

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
"""Seconds a server may take to become ready; a busy machine takes ten times an idle one's."""
STOP_TIMEOUT_S = 8.0
"""Seconds a server may take to end after SIGTERM."""

_claims: list[socket.socket] = []


class ServerError(RuntimeError):
    """A server did not become ready, or died; the message ends with its last words."""


@dataclass(frozen=True)
class ServerProcess:
    """A child process that is ready."""

    name: str
    folder: Path
    """Its working folder."""
    log: Path
    """Its standard output and error."""
    child: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.child.pid

    def output(self) -> str:
        """Return all that it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self, grace: float = STOP_TIMEOUT_S) -> int:
        """End it with SIGTERM, after `grace` seconds with SIGKILL; return its exit code."""
        self.child.terminate()
        try:
            return self.child.wait(grace)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """End it with SIGKILL, as the OOM killer would; return its exit code."""
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
    """Start a server in `folder`, yield it when it is ready, and end it on leaving.

    The server sees the variables of `env`, PATH and HOME (the folder), and nothing else of our
    environment, so that a proxy or an OTEL_* variable of the caller changes no test. The kernel
    kills it if the thread that called this ends without leaving the context (`setpriv`).

    Args:
        name: for messages and the log's file name.
        command: the program, by its path, and its arguments.
        folder: an existing folder, the server's working folder. A test that restarts a server
            passes the same one again; the log is appended to.
        ready: asked until it returns True.
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
            process_group=0,  # a Ctrl-C is for the test runner, which then ends the servers
        )
    process = ServerProcess(name, folder, log, child)
    try:
        _await(process, ready, limit)
        yield process
    finally:
        process.stop()


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that is free, and ours for as long as this process lives.

    It is below the range from which the kernel picks ports for outgoing connections, so that
    none of those takes it before the server binds it, and no other process that calls this
    function gets it, so that tests can run beside each other.
    """
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        claim = socket.socket(socket.AF_UNIX)
        try:
            # A name in the same network namespace as the port, which the kernel gives to one
            # process only and takes back when that ends.
            claim.bind(f"\0otel-oom-tests-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((LOOPBACK, port))
        except OSError:
            claim.close()
        else:
            _claims.append(claim)
            return port


def _await(process: ServerProcess, ready: Callable[[ServerProcess], bool], limit: float) -> None:
    def probe() -> bool:
        code = process.child.poll()
        if code is not None:
            raise ServerError(_last_words(process, f"ended with {code} before it was ready"))
        return ready(process)

    try:
        wait_until(probe, process.name, limit=limit)
    except TimeoutError:
        raise ServerError(_last_words(process, f"was not ready within {limit:g} s")) from None


def _last_words(process: ServerProcess, what: str, lines: int = 30) -> str:
    tail = "\n".join(process.output().splitlines()[-lines:])
    return f"{process.name} {what}; the end of its log:\n{tail}"
