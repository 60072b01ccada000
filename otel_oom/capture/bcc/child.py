"""Run BCC in another process, and receive what it attached."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import IO, Any, Final

from msgspec import Struct

from otel_oom.capture.bcc import child_main
from otel_oom.capture.bcc.kernel_headers import VARIABLE
from otel_oom.capture.source import CaptureError

SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""Interpreter for which distributions install BCC."""

_INSTALL: Final = (
    "Install BCC's Python module: apt-get install python3-bpfcc (Debian, Ubuntu), "
    "dnf install python3-bcc (Fedora)."
)
_TIMEOUT_S: Final = 300.0
"""Compiling takes 1.5 s, and a hundred times that on an emulated processor."""
_REPLY_BYTES: Final = 1 << 16
_MAX_DESCRIPTORS: Final = 64
_MAX_OUTPUT_BYTES: Final = 1 << 20


class BccError(CaptureError):
    """BCC is missing or failed; ``kind`` is the reason, as in :mod:`child_main`."""

    def __init__(self, kind: str, message: str) -> None:
        """Describe the failure, and what to do next."""
        super().__init__(message)
        self.kind = kind


class FdTransfer(Struct, frozen=True):
    """BCC's reply, and the descriptors in it, which are ours now."""

    interpreter: str
    reply: dict[str, Any]
    descriptors: list[int]


def installed_bcc(interpreters: Sequence[str] = ()) -> str:
    """Return the version of BCC and its interpreter.

    Raises:
        CaptureError: it is missing, or another module has its name; says what to install.
    """
    transfer = receive_fds({}, interpreters)
    return f"{transfer.reply['version']}, of {transfer.interpreter}"


def receive_fds(options: dict[str, Any], interpreters: Sequence[str] = ()) -> FdTransfer:
    """Run :mod:`child_main` by the first interpreter that has BCC.

    Raises:
        BccError: none has it, or it failed.
    """
    errors: list[BccError] = []
    for interpreter in interpreters or tuple(_default_interpreters()):
        try:
            return _run_child(interpreter, options)
        except BccError as error:
            if error.kind not in {"absent", "other", "library"}:
                raise
            errors.append(error)
    # A foreign module of that name explains more than a missing one.
    raise next((error for error in errors if error.kind != "absent"), errors[0])


def _default_interpreters() -> Iterator[str]:
    """Yield our interpreter, if it has a module ``bcc``, and the system's."""
    if find_spec("bcc") is not None:
        yield sys.executable
    if sys.executable != SYSTEM_PYTHON:
        yield SYSTEM_PYTHON


def _run_child(interpreter: str, options: dict[str, Any]) -> FdTransfer:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [interpreter, "-I", "-B", child_main.__file__]
    command += [str(theirs.fileno()), json.dumps(options)]
    with ours, tempfile.TemporaryFile() as output:
        with theirs:
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[theirs.fileno()],
                    env=_child_environ(),
                )
            except OSError as error:
                raise BccError("absent", f"{interpreter}: {error.strerror}. {_INSTALL}") from None
        try:
            ours.settimeout(_TIMEOUT_S)
            message, descriptors, _, _ = socket.recv_fds(ours, _REPLY_BYTES, _MAX_DESCRIPTORS)
            if not message:
                code = child.wait()
        except TimeoutError:
            raise BccError("compile", f"BCC took more than {_TIMEOUT_S:.0f} s.") from None
        finally:
            child.kill()  # it has nothing more to do
            child.wait()
        if not message:
            raise BccError("ended", _describe_exit(code))
        reply = json.loads(message)
        if "error" in reply:
            raise BccError(reply["kind"], _describe_error(reply, interpreter, output))
        return FdTransfer(interpreter, reply, descriptors)


def _child_environ() -> dict[str, str]:
    """Return what BCC and its tools (`modprobe`) need, and no secrets of ours."""
    return {name: os.environ[name] for name in ("PATH", VARIABLE) if name in os.environ}


def _describe_exit(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "BCC was killed, probably because it was out of memory: it needs some 200 MB for a "
            "moment. Give this service that much more (systemd: MemoryMax=)."
        )
    return f"BCC ended with exit code {code}. Please report it, with the kernel's release."


def _describe_error(reply: dict[str, str], interpreter: str, output: IO[bytes]) -> str:
    """Describe an error with the next step, by the reply and the child's output."""
    kind, error = reply["kind"], reply["error"]
    if kind == "absent":
        return f"There is no BCC for {interpreter}. {_INSTALL}"
    if kind == "other":
        return (
            f"The module bcc of {interpreter} is not BCC but another project of that name "
            f"({error}). {_INSTALL} What PyPI has as bcc is unrelated."
        )
    if kind == "library":
        return f"BCC's library cannot be loaded ({error}). {_INSTALL}"
    output.seek(0)
    lines = output.read(_MAX_OUTPUT_BYTES).decode("utf-8", errors="replace").splitlines()
    if kind == "compile":
        reason = next((line for line in lines if "error: " in line), error)
        return (
            f"BCC did not compile the kernel side for this kernel: {reason.strip()}. Please "
            "report it with the kernel's release."
        )
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f"The kernel rejected what BCC compiled: {error}. {last.strip()}".rstrip()
