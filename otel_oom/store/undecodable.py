"""Records that this version can't read, kept as they were for one that can."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from otel_oom.store import StoreError

_MOST: Final = 4096
"""More than a ring buffer holds."""


def save_record(state_dir: Path, record: bytes) -> Path:
    """Put ``record`` into a file of its own in ``state_dir``, synced; its path.

    The name is made of the content: a record kept twice is one file.

    Raises:
        StoreError: it is not on the disk.
    """
    # 4 MB that hardly any agent needs.
    from hashlib import blake2b  # noqa: PLC0415

    folder = state_dir / "unread"
    path = folder / f"{blake2b(record, digest_size=16).hexdigest()}.record"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            if sum(1 for _ in folder.iterdir()) >= _MOST:
                raise StoreError(f"{folder} is full: move it away")
            _write(folder, path, record)
    except OSError as error:
        raise StoreError(f"{folder} takes no records: {error.strerror}") from error
    return path


def _write(folder: Path, path: Path, record: bytes) -> None:
    unfinished = folder / "unfinished"
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(record)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    for each in (folder, folder.parent):
        place = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fsync(place)
        os.close(place)
