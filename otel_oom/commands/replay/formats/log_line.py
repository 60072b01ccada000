"""Lines of the kernel log as a file stores them, and their timestamps."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Final

from msgspec import Struct

from otel_oom.model.units import NS_PER_S

TEXT: Final = "text"
"""The format of a line without a known prefix."""

_MAX_SECOND: Final = 59


class PartialTimestamp(Struct, frozen=True):
    """A written date and time; ``year`` and ``offset_s``, that of its zone, may be missing.

    ``ns`` are the nanoseconds of the second.
    """

    year: int | None
    month: int
    day: int
    hour: int
    minute: int
    second: int
    ns: int = 0
    offset_s: int | None = None

    def unix_ns(self, year: int | None = None) -> int:
        """Return Unix time in nanoseconds, with ``year`` and the local zone for missing ones.

        Raises ValueError if there is no such day or time.
        """
        full_year = self.year if self.year is not None else year
        if full_year is None:
            raise ValueError("no year")
        # A leap second counts as the second before it.
        second = min(self.second, _MAX_SECOND)
        date = datetime(full_year, self.month, self.day, self.hour, self.minute, second)  # noqa: DTZ001  the zone follows
        if self.offset_s is None:
            seconds = int(time.mktime(date.timetuple()))
        else:
            zone = timezone(timedelta(seconds=self.offset_s))
            seconds = int(date.replace(tzinfo=zone).timestamp())
        return seconds * NS_PER_S + self.ns


class LoggedLine(Struct, frozen=True):
    """A line of the kernel or of a userspace OOM daemon, as some program has stored it.

    ``format`` names the program. ``since_boot_ns`` is the time on the log's own clock. ``when`` is
    that on the wall clock: Unix time in nanoseconds, or as written. ``elapsed_ns`` is the time
    since the line before, where that is all it has. ``host`` is the host's name, ``host_id`` its
    machine-id(5). ``boot_id`` is empty if unknown. ``caller`` is the id of
    the printing thread. ``unverified``: any program can have written the line. ``unit`` is that of
    the daemon, ``None`` for the kernel.
    """

    format: str
    text: str
    since_boot_ns: int | None = None
    when: int | PartialTimestamp | None = None
    host: str | None = None
    host_id: str | None = None
    boot_id: str = ""
    caller: int | None = None
    unverified: bool = False
    elapsed_ns: int | None = None
    unit: str | None = None
