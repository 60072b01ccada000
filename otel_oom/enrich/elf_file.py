"""ELF files at paths that a container controls, opened without side effects."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_oom.linux.elf import BUILD_ID_BYTES, ElfFile, read_elf


def path_below(root: Path, path: str) -> str:
    """Return ``path`` below ``root``, whether it is absolute or not."""
    return str(root / path.lstrip("/"))


def pad_build_id(build_id: bytes) -> bytes:
    """Pad a short build id, as the kernel does (``parse_build_id()`` of lib/buildid.c)."""
    return build_id.ljust(BUILD_ID_BYTES, b"\0")


def read_build_id(path: str) -> bytes | None:
    """Read the padded build id of the file at ``path``; ``None`` without one."""
    with open_elf(path) as file:
        return None if file is None else pad_build_id(file.build_id)


@contextmanager
def open_elf(path: str) -> Iterator[ElfFile | None]:
    """Yield the ELF file at ``path``; ``None`` if there is none."""
    with open_regular(path) as fd:
        yield None if fd is None else read_elf(fd)


@contextmanager
def open_regular(path: str) -> Iterator[int | None]:
    """Yield a descriptor of a regular file, to read from; ``None`` if there is none.

    In a container ``path`` can be a link to a device, and opening a device can have effects: the
    type is checked first.
    """
    fds = []
    try:
        try:
            fds.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
            if stat.S_ISREG(os.fstat(fds[0]).st_mode):
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
                fds.append(os.open(f"/proc/self/fd/{fds[0]}", flags))
        except (OSError, ValueError):
            del fds[1:]
        yield fds[1] if len(fds) > 1 else None
    finally:
        for fd in fds:
            os.close(fd)
