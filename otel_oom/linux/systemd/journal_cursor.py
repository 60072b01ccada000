"""A cursor of systemd's journal in a file of the state directory.

It only saves work: an entry that is read again has the same uid and is stored once.
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
_MAX_BYTES: Final = 512
_CURSOR: Final = re.compile(r"[0-9A-Za-z=;:_+/.-]{1,512}")


class JournalCursor:
    """The cursor of the last entry that is done; ``cursor`` is ``None`` before the first."""

    def __init__(self, state_dir: Path) -> None:
        """Read the file; content that is no cursor, and a symbolic link, are ignored."""
        self._path = state_dir / _NAME
        self._failed = False
        self.cursor: str | None = None
        with suppress(OSError, ValueError):
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                text = os.read(file, _MAX_BYTES).decode("ascii").strip()
            finally:
                os.close(file)
            self.cursor = text if _CURSOR.fullmatch(text) else None

    def save(self, cursor: str) -> None:
        """Save ``cursor``; a failure is logged once, because a full disk may recover."""
        if cursor == self.cursor or not _CURSOR.fullmatch(cursor):
            return
        self.cursor = cursor
        try:
            self._write(cursor)
        except OSError as error:
            if not self._failed:
                _LOG.warning("Could not save the journal cursor: %s", error)
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
