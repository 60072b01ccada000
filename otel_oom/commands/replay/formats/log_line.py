"""A line of the kernel's log as a file keeps it, and the time that stands before it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from otel_oom.model.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class PartialTimestamp:
    """A date and time as it is written; ``year`` and ``offset_s`` (of its zone) where they are.

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

    @classmethod
    def of(
        cls,
        year: int | None,
        month: int,
        rest: Sequence[bytes],
        *,
        ns: int = 0,
        offset_s: int | None = None,
    ) -> PartialTimestamp:
        """With the digits of day, hour, minute and second as the ``rest``."""
        day, hour, minute, second = map(int, rest)
        return cls(year, month, day, hour, minute, second, ns, offset_s)

    def unix_ns(self, year: int | None = None) -> int:
        """Unix time in nanoseconds, in ``year`` if it has none; without a zone, in this machine's.

        Raises:
            ValueError: there is no such day or time.
        """
        in_year = self.year if self.year is not None else year
        if in_year is None:
            raise ValueError("no year")
        # A leap second is told as the second before it.
        at = datetime(  # noqa: DTZ001  the zone follows
            in_year, self.month, self.day, self.hour, self.minute, min(self.second, 59)
        )
        if self.offset_s is None:
            seconds = int(time.mktime(at.timetuple()))
        else:
            zone = timezone(timedelta(seconds=self.offset_s))
            seconds = int(at.replace(tzinfo=zone).timestamp())
        return seconds * NS_PER_S + self.ns


@dataclass(frozen=True, slots=True)
class LoggedLine:
    """A line that the kernel printed, as some producer has kept it.

    ``form`` names the producer. ``since_boot_ns`` is the time on the log's own clock, ``when``
    that on the wall's: nanoseconds of Unix time, or what is written of it. ``host`` is its name
    and ``host_id`` its machine-id(5), where they are told; ``boot_id`` is empty where it is not.
    """

    form: str
    text: str
    since_boot_ns: int | None = None
    when: int | PartialTimestamp | None = None
    host: str | None = None
    host_id: str | None = None
    boot_id: str = ""
    caller: int | None = None
