"""Files of one log, of which each was written to before the next: what that says of their times.

logrotate(8) numbers them, or gives them the day as a name. A copy may have lost the time of a file,
and a log without years is told by that: so no file is of later than the next one's first line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from otel_oom.commands.replay.decompress import UnreadableError, opened
from otel_oom.commands.replay.formats import detect
from otel_oom.commands.replay.log_file import LogFile
from otel_oom.commands.replay.timestamps import FILE, TimestampResolver
from otel_oom.model.units import NS_PER_S

_PACKED: Final = re.compile(r"\.(?:gz|xz|zst|bz2)$")
_ROTATED: Final = re.compile(
    r"(?P<base>.+?)(?:\.(?P<number>\d{1,4})|[.-](?P<date>\d{8})(?P<time>[\d-]{0,11}))?"
)
_HEAD_BYTES: Final = 1 << 16
_DAY_NS: Final = 86_400 * NS_PER_S


def base(name: str) -> str:
    """What a file was called before it was rotated away and packed."""
    found = _ROTATED.fullmatch(_PACKED.sub("", name))
    return found["base"] if found else name


def age(file: LogFile) -> tuple[int, str, int, int]:
    """Less for an older one of a log: dated, then numbered, then what is written to."""
    found = _ROTATED.fullmatch(_PACKED.sub("", file.paths[0].name))
    if found and found["date"]:
        return 0, found["date"] + found["time"], 0, file.ended_unix_ns
    if found and found["number"]:
        return 1, "", -int(found["number"]), file.ended_unix_ns
    return 2, "", 0, file.ended_unix_ns


def ended(log: Sequence[LogFile]) -> list[LogFile]:
    """The files of one log, oldest first, with the times by which they can have ended at most."""
    found: list[LogFile] = []
    at_most: int | None = None
    for file in reversed(log):
        known = [file.ended_unix_ns, at_most, _dated(file)]
        bounded = replace(file, ended_unix_ns=min(one for one in known if one is not None))
        found.insert(0, bounded)
        at_most = _began(bounded) if len(log) > 1 else None
    return found


def _dated(file: LogFile) -> int | None:
    """The end of the day that its name has, in nanoseconds of Unix time."""
    found = _ROTATED.fullmatch(_PACKED.sub("", file.paths[0].name))
    if not found or not found["date"]:
        return None
    try:
        day = datetime.strptime(found["date"], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(day.timestamp()) * NS_PER_S + 2 * _DAY_NS


def _began(file: LogFile) -> int:
    """When its first line was printed; its end where that does not tell."""
    try:
        with opened(file.paths[0]) as (stream, _):
            head = stream.read(_HEAD_BYTES)
    except UnreadableError:
        return file.ended_unix_ns
    timeline = TimestampResolver(file.ended_unix_ns)
    for raw in head.split(b"\n"):
        line = detect.parse(raw)
        if line is not None and line.when is not None:
            unix_ns, source = timeline.unix_ns(timeline.note(line))
            if source != FILE:
                return min(unix_ns, file.ended_unix_ns)
    return file.ended_unix_ns
