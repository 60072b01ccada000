"""Facts about a log that its lines lack, and that the user knows: options of the command."""

from __future__ import annotations

import argparse
import os
import re
import time
from datetime import datetime
from typing import Final

from msgspec import Struct

from otel_oom.model.units import NS_PER_S

_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)?")
_UNIX: Final = re.compile(r"@?(\d{9,11}(?:\.\d{1,9})?)")
_YEARS: Final = range(1970, 2263)
"""Years whose times fit into 63 bits of nanoseconds."""
_MAX_HOST_CHARS: Final = 255


class Hints(Struct, frozen=True):
    """Facts that complete lines, each ``None`` where the user gave none.

    ``boot_unix_ns`` is when the last boot of a file began, ``captured_unix_ns`` when a file was
    written, ``year`` that of a file's last date. ``host`` is that of lines without one.
    """

    boot_unix_ns: int | None = None
    captured_unix_ns: int | None = None
    year: int | None = None
    host: str | None = None


def add_hints(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = parser.add_argument_group("what the log does not say")
    group.add_argument(
        "--boot-time",
        metavar="TIME",
        help="when the host booted, for lines with nothing but the time since the boot: a date "
        "and time such as 2026-11-24T09:12:44+01:00, or Unix time",
    )
    group.add_argument(
        "--captured-at",
        metavar="TIME",
        help="when the log was saved, in place of the file's modification time",
    )
    group.add_argument(
        "--year", type=_year, help="year of the last date of each file, for dates without a year"
    )
    group.add_argument(
        "--timezone",
        type=_timezone,
        metavar="ZONE",
        help="time zone of times without one, such as Europe/Berlin or +01:00 (default: that of "
        "this machine)",
    )
    group.add_argument("--host", type=_host, metavar="NAME", help="host of lines that name none")


def read_hints(arguments: argparse.Namespace) -> Hints:
    """Return the facts of the options, and set the time zone of this process.

    Raises ValueError with a sentence for a time that is none.
    """
    if arguments.timezone is not None:
        os.environ["TZ"] = arguments.timezone
        time.tzset()
    return Hints(
        boot_unix_ns=_unix_ns("--boot-time", arguments.boot_time),
        captured_unix_ns=_unix_ns("--captured-at", arguments.captured_at),
        year=arguments.year,
        host=arguments.host,
    )


def _unix_ns(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    if match := _UNIX.fullmatch(text):
        seconds, _, fraction = match[1].partition(".")
        return int(seconds) * NS_PER_S + int(fraction.ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text)
        return int(moment.timestamp()) * NS_PER_S + moment.microsecond * 1000
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{option} {text} is not a time. Write it as 2026-11-24T09:12:44+01:00, or as Unix "
            "time in seconds."
        ) from error


def _year(text: str) -> int:
    if not text.isdecimal() or int(text) not in _YEARS:
        raise argparse.ArgumentTypeError(f"{text} is not a year of four digits, such as 2026")
    return int(text)


def _timezone(text: str) -> str:
    """Return the value of the variable TZ; there the sign of an offset is the other one."""
    if match := _OFFSET.fullmatch(text):
        sign = "-" if match[1] == "+" else "+"
        return f"<{match[1]}{match[2]}>{sign}{match[2]}:{match[3] or '00'}"
    from zoneinfo import available_timezones  # noqa: PLC0415  every command adds these options

    if text not in available_timezones():
        raise argparse.ArgumentTypeError(
            f"{text} is not a time zone of this machine: write a name such as Europe/Berlin, or an "
            "offset such as +01:00"
        )
    return text


def _host(text: str) -> str:
    if not text or len(text) > _MAX_HOST_CHARS or not text.isprintable():
        raise argparse.ArgumentTypeError("the name of a host has 1 to 255 printable characters")
    return text
