"""How far systemd's journal has been read, in a file of the state folder: one of its cursors.

It only spares reading: what is read again has the same names, and is told once all the same.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

_LOG = logging.getLogger(__name__)

_NAME: Final = "journal-cursor"
_MOST_BYTES: Final = 512
_CURSOR: Final = re.compile(r"[0-9A-Za-z=;:_+/.-]{1,512}")


class JournalCursor:
    """The cursor of the last entry that needs no reading again; ``None`` before the first."""

    def __init__(self, state_dir: Path) -> None:
        """Read what is there; a file that is none of ours is as good as none."""
        self._path = state_dir / _NAME
        self._failed = False
        self.cursor: str | None = None
        with suppress(OSError, ValueError):
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                text = os.read(file, _MOST_BYTES).decode("ascii").strip()
            finally:
                os.close(file)
            self.cursor = text if _CURSOR.fullmatch(text) else None

    def set(self, cursor: str) -> None:
        """Keep ``cursor``; raises nothing, for a disk that is full comes back."""
        if cursor == self.cursor or not _CURSOR.fullmatch(cursor):
            return
        self.cursor = cursor
        try:
            self._write(cursor)
        except OSError as error:
            if not self._failed:
                _LOG.warning("How far the journal was read can't be kept: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _write(self, cursor: str) -> None:
        new = self._path.with_name(f"{_NAME}.new")
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(new, flags, 0o600)
        try:
            os.write(file, f"{cursor}\n".encode("ascii"))
            os.fsync(file)
        finally:
            os.close(file)
        new.rename(self._path)
