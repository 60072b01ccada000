"""A file that names the event in work, so that the next start knows what the agent died of."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

_NAME: Final = "encoding"
_BYTES: Final = 64


class MarkedEvent(Struct, frozen=True):
    """An event in work, and how often the process has ended in its encoding before."""

    uid: str
    deaths: int


class EncodingMark:
    """The mark of one agent; without a writable file it does not survive.

    It is written and not synced: it must survive the process, not the host. No mapped file: a page
    of one for which the disk has no space would end the process (SIGBUS).
    """

    def __init__(self, state_dir: Path) -> None:
        self._file: int | None = None
        self.marked: MarkedEvent | None = None
        """The event that is in work, or was when an earlier process ended."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with suppress(OSError):
            self._file = os.open(state_dir / _NAME, flags, 0o600)
            self.marked = _parse(os.pread(self._file, _BYTES, 0))

    def set(self, uid: str, deaths: int) -> None:
        """Mark the event ``uid`` as in work."""
        self.marked = MarkedEvent(uid, deaths)
        self._write(f"{deaths} {uid}")

    def clear(self) -> None:
        """Mark that no event is in work."""
        self.marked = None
        self._write("")

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _write(self, text: str) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.pwrite(self._file, text.encode().ljust(_BYTES), 0)


def _parse(data: bytes) -> MarkedEvent | None:
    deaths, _, uid = data.decode("ascii", "replace").strip().partition(" ")
    return MarkedEvent(uid, int(deaths)) if re.fullmatch("[0-9]{1,3}", deaths) and uid else None
