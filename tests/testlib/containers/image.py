"""One small image for all runtimes, and the shell programs that its containers run."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Final

BUSYBOX: Final = Path("/bin/busybox")

FILL_MEMORY: Final = "mkfifo /gate; read _ < /gate; exec tail /dev/zero"
"""Waits until the gate is opened, then allocates memory until it is killed."""
FILL_MEMORY_IN_CHILD: Final = "mkfifo /gate; read _ < /gate; tail /dev/zero; exec sleep 100000"
"""The same in a child process: the container and its shim live on."""
OPEN_GATE: Final = "echo > /gate"
"""Opens the gate; runs in the same container."""
IDLE: Final = "exec sleep 100000"

KILLED_EXIT_CODE: Final = 137
"""What runtimes report of a process that SIGKILL has ended."""


def build_image() -> bytes:
    """Return the files of the image as a tar archive: busybox under a few names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        add_links(tar, {f"bin/{name}": "busybox" for name in _COMMANDS})
    return buffer.getvalue()


def add_links(tar: tarfile.TarFile, links: dict[str, str]) -> None:
    """Add symbolic links by their names and targets."""
    for name, target in links.items():
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)


_COMMANDS: Final = ("dd", "head", "mkfifo", "sh", "sleep", "tail")
