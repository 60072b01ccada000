"""Small C programs of scenarios, for what Python does too slowly or cannot do at all.

Each is one file of `programs/`, linked statically: a guest starts it in milliseconds.
"""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path
from typing import Final

from otel_oom.linux.temporary_cgroup import Cgroup
from tests.testlib.kernel.kills import wait_until_killed
from tests.testlib.repository import REPOSITORY

_SOURCES: Final = Path(__file__).with_name("programs")
_BUILT: Final = REPOSITORY / "build" / "guests"
_FLAGS: Final = (
    *("-static", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread"),
    "-fno-builtin",  # else memory that is never read is not allocated
)


class ProgramError(RuntimeError):
    """A program cannot be compiled; the message says why."""


def program_path(name: str) -> Path:
    """Return the path of a program, once :func:`build_programs` was called."""
    return _BUILT / name


def fill_cgroup(memcg: Cgroup) -> int:
    """Fill the cgroup from one process until the kernel kills it; return its pid."""
    with subprocess.Popen([program_path("fill_cgroup"), memcg.procs]) as process:
        wait_until_killed(process)
    return process.pid


def build_programs() -> None:
    """Compile the programs that are not up to date; a guest cannot write here.

    Raises:
        ProgramError: clang is missing or rejects a program.
    """
    _BUILT.mkdir(parents=True, exist_ok=True)
    with (_BUILT / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shared = (*_SOURCES.glob("*.h"), Path(__file__))
        for source in sorted(_SOURCES.glob("*.c")):
            path = program_path(source.stem)
            newest = max(made_of.stat().st_mtime for made_of in (source, *shared))
            if not path.exists() or path.stat().st_mtime <= newest:
                _compile(source, path)


def _compile(source: Path, path: Path) -> None:
    unfinished = path.with_suffix(".new")
    command = ["clang", *_FLAGS, str(source), "-o", str(unfinished)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise ProgramError(f"clang cannot be run: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise ProgramError(f"{source.name} does not compile:\n{error.stderr}") from error
    unfinished.rename(path)
