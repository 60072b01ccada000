"""A small file system that tests fill."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testlib.require import require

_BLOCK = 4096


class Disk:
    """A file system that is mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Write until not even one block fits."""
        file = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while True:
                os.write(file, bytes(_BLOCK))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(file)

    def clear(self) -> None:
        """Free the space again."""
        self._filler.unlink()


@contextmanager
def mount_disk(path: Path, size: str) -> Iterator[Disk]:
    """Mount a tmpfs of ``size`` at ``path``; unmount it at the end."""
    require(os.geteuid() == 0, "mounting a file system needs root")
    path.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", path], check=True
    )
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)
