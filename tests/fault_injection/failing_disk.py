"""A disk whose file system the kernel finds broken, and remounts read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_BYTES: Final = 64 << 20
_REPAIRED: Final = {0, 1}
"""e2fsck(8): no errors, or all errors corrected."""


class FailingDisk:
    """An ext4 of its own in the file ``image``, mounted at ``path``."""

    def __init__(self, image: Path, path: Path) -> None:
        """Make the file system and mount it."""
        self.path = path
        self._image = image
        with image.open("wb") as file:
            file.truncate(_BYTES)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        path.mkdir()
        self._mount()

    def _mount(self) -> None:
        options = "loop,errors=remount-ro"
        subprocess.run(["mount", "-o", options, self._image, self.path], check=True)
        command = ["findmnt", "--noheadings", "--output", "SOURCE", str(self.path)]
        device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        self._sysfs = Path("/sys/fs/ext4", Path(device).name)

    def fail(self) -> None:
        """Let the kernel find an error: no open file can be written from then on."""
        (self._sysfs / "trigger_fs_error").write_text("1", encoding="ascii")

    def repair(self) -> None:
        """Unmount it, repair it, and mount it again."""
        self.unmount()
        done = subprocess.run(["e2fsck", "-p", self._image], check=False, capture_output=True)
        assert done.returncode in _REPAIRED, done
        self._mount()

    def unmount(self) -> None:
        subprocess.run(["umount", self.path], check=True)


@contextmanager
def failing_disk(image: Path, path: Path) -> Iterator[FailingDisk]:
    """Make a failing disk, and unmount it at the end."""
    failing = FailingDisk(image, path)
    try:
        yield failing
    finally:
        failing.unmount()
