"""The process that BCC works in, seen from ours: how it is started, and what it has to say."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO, Any, Final

from otel_oom.capture.bcc import child_main
from otel_oom.capture.bcc.kernel_headers import VARIABLE
from otel_oom.capture.source import CaptureError

SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""The interpreter that distributions install BCC for."""

_INSTALL: Final = (
    "Install BCC's Python module: apt-get install python3-bpfcc (Debian, Ubuntu), "
    "dnf install python3-bcc (Fedora)."
)
_LIMIT_S: Final = 300.0
"""What compiling may take: 1.5 s, and a hundred times that on an emulated processor."""
_REPLY_BYTES: Final = 1 << 16
_MOST_DESCRIPTORS: Final = 64
_MOST_SAID: Final = 1 << 20


class BccError(CaptureError):
    """BCC can't be had, or can't do it; `kind` is why, as :mod:`bcc_child` has it."""

    def __init__(self, kind: str, message: str) -> None:
        """Say why, and what to do next."""
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class FdTransfer:
    """An answer of BCC's, and the descriptors that it is about, which are ours now."""

    interpreter: str
    reply: dict[str, Any]
    descriptors: list[int]


def installed_bcc(interpreters: Sequence[str] = ()) -> str:
    """Which BCC there is, and for which interpreter.

    Raises:
        CaptureError: none, or something else of that name; says what to install.
    """
    given = hand_over({}, interpreters)
    return f"{given.reply['version']}, of {given.interpreter}"


def _interpreters() -> Iterator[str]:
    """Where BCC may be: with us, if there is a module of that name, or where packages put it."""
    if find_spec("bcc") is not None:
        yield sys.executable
    if sys.executable != SYSTEM_PYTHON:
        yield SYSTEM_PYTHON


def hand_over(wanted: dict[str, Any], interpreters: Sequence[str] = ()) -> FdTransfer:
    """The answer of the first interpreter that has BCC to the settings of :mod:`bcc_child`.

    Raises:
        BccError: none has it, or it could not do what is wanted.
    """
    errors: list[BccError] = []
    for interpreter in interpreters or tuple(_interpreters()):
        try:
            return _ask(interpreter, wanted)
        except BccError as error:
            if error.kind not in {"absent", "other", "library"}:
                raise
            errors.append(error)
    # That there is something else by that name says more than that there is nothing.
    raise next((error for error in errors if error.kind != "absent"), errors[0])


def _ask(interpreter: str, wanted: dict[str, Any]) -> FdTransfer:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [interpreter, "-I", "-B", child_main.__file__, str(theirs.fileno()), json.dumps(wanted)]
    with ours, tempfile.TemporaryFile() as said:
        with theirs:
            try:
                child = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    pass_fds=[theirs.fileno()],
                    env=_environ(),
                )
            except OSError as error:
                raise BccError("absent", f"{interpreter}: {error.strerror}. {_INSTALL}") from None
        try:
            ours.settimeout(_LIMIT_S)
            message, descriptors, _, _ = socket.recv_fds(ours, _REPLY_BYTES, _MOST_DESCRIPTORS)
            if not message:
                code = child.wait()
        except TimeoutError:
            raise BccError("compile", f"BCC took more than {_LIMIT_S:.0f} s.") from None
        finally:
            child.kill()  # it has nothing more to do
            child.wait()
        if not message:
            raise BccError("ended", _end(code))
        reply = json.loads(message)
        if "error" in reply:
            raise BccError(reply["kind"], _sentence(reply, interpreter, said))
        return FdTransfer(interpreter, reply, descriptors)


def _environ() -> dict[str, str]:
    """What BCC reads, and where it finds `modprobe` and the like; no secrets of ours."""
    kept = ("PATH", VARIABLE)
    return {name: os.environ[name] for name in kept if name in os.environ}


def _end(code: int) -> str:
    """What became of a process that had no answer."""
    if code == -signal.SIGKILL:
        return (
            "BCC was killed, probably for want of memory: for a moment it takes some 200 MB. Give "
            "this service that much more (systemd: MemoryMax=)."
        )
    return f"BCC ended with exit code {code}. Please report it, with the kernel's release."


def _sentence(reply: dict[str, str], interpreter: str, said: IO[bytes]) -> str:
    """What is wrong and what to do, out of an answer and what was said meanwhile."""
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
    said.seek(0)
    lines = said.read(_MOST_SAID).decode("utf-8", errors="replace").splitlines()
    if kind == "compile":
        reason = next((line for line in lines if "error: " in line), error)
        return (
            f"BCC did not compile the kernel side for this kernel: {reason.strip()}. Please "
            "report it with the kernel's release."
        )
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f"The kernel refused what BCC compiled: {error}. {last.strip()}".rstrip()
