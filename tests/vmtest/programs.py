"""Small C programs of scenarios, for what Python does too slowly or cannot do at all.

Each is one file of `programs/`, linked statically: a guest starts it in milliseconds.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from otel_oom.linux.temporary_cgroup import Cgroup
from tests.testlib.kernel.kills import wait_until_killed
from tests.testlib.repository import REPOSITORY

_SOURCES: Final = Path(__file__).with_name("programs")
_BUILT: Final = REPOSITORY / "build" / "guests"
ARM64_PROGRAMS: Final = REPOSITORY / "build" / "guests-arm64"
"""The folder of the programs for arm64, which are those of `build/guests` in a guest."""

_COMPILER: Final = ("clang",)
# Clang with the start files of other machines; Debian's packages of them are 200 MB.
_ARM64_COMPILER: Final = (sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl")
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


def build_programs(*, arm64: bool = False) -> None:
    """Compile the programs that are not up to date; a guest cannot write here.

    Raises:
        ProgramError: the compiler is missing or rejects a program.
    """
    folder = ARM64_PROGRAMS if arm64 else _BUILT
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shared = (*_SOURCES.glob("*.h"), Path(__file__))
        for source in sorted(_SOURCES.glob("*.c")):
            path = folder / source.stem
            newest = max(made_of.stat().st_mtime for made_of in (source, *shared))
            if not path.exists() or path.stat().st_mtime <= newest:
                _compile(_ARM64_COMPILER if arm64 else _COMPILER, source, path)


def _compile(compiler: Sequence[str], source: Path, path: Path) -> None:
    unfinished = path.with_suffix(".new")
    command = [*compiler, *_FLAGS, str(source), "-o", str(unfinished)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except OSError as error:
        raise ProgramError(f"{compiler[0]} cannot be run: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        raise ProgramError(f"{source.name} does not compile:\n{error.stderr}") from error
    unfinished.rename(path)
