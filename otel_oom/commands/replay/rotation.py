"""The order of rotated files, and their latest possible end.

logrotate(8) numbers files, or puts the date into their names. Logs without years are dated by
mtime, which a copy may have lost, so it is bounded by the first line of the next file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from otel_oom.commands.replay.decompress import UnreadableFileError, open_file
from otel_oom.commands.replay.formats import detect
from otel_oom.commands.replay.timestamps import FILE, TimestampResolver
from otel_oom.model.units import DAY_S, NS_PER_S

_COMPRESSED: Final = re.compile(r"\.(?:gz|xz|zst|bz2)$")
_ROTATED: Final = re.compile(
    r"(?P<base>.+?)(?:\.(?P<number>\d{1,4})|[.-](?P<date>\d{8})(?P<time>[\d-]{0,11}))?"
)
_HEAD_BYTES: Final = 1 << 16


def base_name(name: str) -> str:
    """Return the name of a file before it was rotated and compressed."""
    match = _match(name)
    return match["base"] if match else name


def age_key(name: str) -> tuple[int, str, int]:
    """Return a sort key, older first: dated, then numbered, then the one still written to."""
    match = _match(name)
    if match and match["date"]:
        return 0, match["date"] + match["time"], 0
    if match and match["number"]:
        return 1, "", -int(match["number"])
    return 2, "", 0


def latest_ends(files: Sequence[tuple[Path, int]]) -> list[int]:
    """Return the latest time at which each file of one log can have ended, in Unix nanoseconds.

    ``files`` are paths and their mtimes, the oldest file first.
    """
    ends: list[int] = []
    next_start: int | None = None
    for path, mtime_ns in reversed(files):
        bounds = (mtime_ns, next_start, _end_of_date(path.name))
        ends.insert(0, min(bound for bound in bounds if bound is not None))
        next_start = _start(path, ends[0]) if len(files) > 1 else None
    return ends


def _match(name: str) -> re.Match[str] | None:
    return _ROTATED.fullmatch(_COMPRESSED.sub("", name))


def _end_of_date(name: str) -> int | None:
    """Return the end of the date in a name, with a day to spare for time zones."""
    match = _match(name)
    if not match or not match["date"]:
        return None
    try:
        day = datetime.strptime(match["date"], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(day.timestamp()) * NS_PER_S + 2 * DAY_S * NS_PER_S


def _start(path: Path, end_unix_ns: int) -> int:
    """Return the time of the first line with one; the end if there is none."""
    try:
        with open_file(path) as (stream, _):
            head = stream.read(_HEAD_BYTES)
    except UnreadableFileError:
        return end_unix_ns
    resolver = TimestampResolver(end_unix_ns)
    for raw in head.split(b"\n"):
        line = detect.parse_line(raw, allow_unverified=True)
        if line is not None and line.when is not None:
            unix_ns, source = resolver.resolve(resolver.add(line))
            if source != FILE:
                return min(unix_ns, end_unix_ns)
    return end_unix_ns
