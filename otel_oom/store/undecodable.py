"""Records that this version can't decode, saved for one that can."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from otel_oom.store.state_dir import StoreError, sync_directory

_MAX_RECORDS: Final = 4096
"""More than a ring buffer holds."""


def save_record(state_dir: Path, record: bytes) -> Path | None:
    """Save ``record`` in a file of its own below ``state_dir``, synced, and return its path.

    The name derives from the content: a record saved twice is one file. ``None`` if there are too
    many files: the record is lost, and no other waits for it. Raises StoreError if the disk fails.
    """
    # 4 MB that hardly any agent needs.
    from hashlib import blake2b  # noqa: PLC0415

    folder = state_dir / "undecodable"
    path = folder / f"{blake2b(record, digest_size=16).hexdigest()}.record"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            if sum(1 for _ in folder.iterdir()) >= _MAX_RECORDS:
                return None
            _write(folder, path, record)
    except OSError as error:
        raise StoreError(f"Can't write to {folder}: {error.strerror}") from error
    return path


def _write(folder: Path, path: Path, record: bytes) -> None:
    unfinished = folder / "unfinished"
    unfinished.unlink(missing_ok=True)
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "wb") as writer:
        writer.write(record)
        writer.flush()
        os.fsync(file)
    unfinished.rename(path)
    sync_directory(folder)
    sync_directory(folder.parent)
