"""The runtime of a victim, and its memory settings alone.

All of it is read from the victim's own memory or files: by the thread of
:mod:`~otel_oom.snapshot.environ`, which may hang in any of these reads. The command line and the
environment go no further than this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from msgspec.structs import replace

from otel_oom.linux.process import ProcessDir
from otel_oom.linux.runtimes import settings
from otel_oom.linux.runtimes.go_build_info import read_go_version
from otel_oom.linux.runtimes.recognition import list_libraries, recognize_runtime
from otel_oom.linux.untrusted_file import open_root, open_untrusted
from otel_oom.model.runtime import GO, RuntimeSettings

_READ_BYTES: Final = 65536
"""As much of a command line, and of the list of mappings."""


def read_runtime(
    process: ProcessDir, variables: dict[str, str], executable: str | None = None
) -> RuntimeSettings | None:
    """Return the runtime of a process with its settings; ``None`` if it is not recognised.

    ``variables`` are those of its environment that are allowed. ``executable`` is its path, where
    it is known; else it is read.
    """
    command = process.read_text("cmdline", _READ_BYTES) or ""
    argv = command.split("\0")[:-1]
    path = executable or process.read_executable() or ""
    runtime = recognize_runtime(path) or _read_go(process, path)
    if runtime is None:
        maps = process.read_text("maps", _READ_BYTES) or ""
        runtime = recognize_runtime(path, list_libraries(maps))
    selected = settings.select_settings(argv, variables)
    # Without a NUL at its end it was cut by the bound, or its memory is gone.
    return apply_settings(runtime, path, selected, is_complete=command.endswith("\0"))


def apply_settings(
    runtime: RuntimeSettings | None,
    executable: str,
    selected: Mapping[str, str],
    *,
    is_complete: bool,
) -> RuntimeSettings | None:
    """Return ``runtime`` with selected settings.

    Without one, ``GOMEMLIMIT`` names Go: its programs have names of their own.
    """
    if runtime is None and "GOMEMLIMIT" in selected:
        runtime = RuntimeSettings(GO, None, executable)
    is_complete = is_complete and settings.ARGUMENT_FILE not in selected
    return runtime and replace(runtime, settings=selected, is_complete=is_complete)


def _read_go(process: ProcessDir, executable: str) -> RuntimeSettings | None:
    with suppress(OSError), _open_executable(process, executable) as fd:
        version = read_go_version(fd)
        if version is not None:
            return RuntimeSettings(GO, version or None, executable)
    return None


@contextmanager
def _open_executable(process: ProcessDir, executable: str) -> Iterator[int]:
    """Open the program of a process: a regular file, as for any execve(2).

    Its memory goes first, and with it the link to the program; its root directory later.
    """
    try:
        fd = os.open(f"{process.path}/exe", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        if not executable.startswith("/"):
            raise
        with open_root(f"{process.path}/root") as root:
            fd = open_untrusted(root, executable)
    try:
        yield fd
    finally:
        os.close(fd)
