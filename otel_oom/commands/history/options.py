"""``otel-oom events`` and ``otel-oom show`` as words of the command line."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from otel_oom.commands.options import add_state_dir
from otel_oom.model.units import NS_PER_S

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,9})\s*([smhdw])", re.ASCII)


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], state_dir: Callable[[], Path]
) -> None:
    """Add both to the command line; ``state_dir`` is where the state is unless said."""
    events = commands.add_parser("events", help="the host's recent OOM kills, the newest last")
    events.add_argument(
        "--last", type=_count, metavar="N", help="how many (default: 20, or all with --since)"
    )
    events.add_argument(
        "--since",
        type=since_ns,
        metavar="WHEN",
        help="those since then: 90m, 12h, 2d or 1w ago, or a time in ISO 8601, in UTC",
    )
    events.set_defaults(command=_events)
    show = commands.add_parser("show", help="the whole story of one kill")
    show.add_argument(
        "which",
        nargs="?",
        default="last",
        metavar="WHICH",
        help="the beginning of its log.record.uid, its process id, or last (default)",
    )
    show.set_defaults(command=_show)
    for command in (events, show):
        command.add_argument("--json", action="store_true", help="print it as OTLP/JSON lines")
        add_state_dir(command, state_dir())


def since_ns(text: str, now_ns: int | None = None) -> int:
    """A time in nanoseconds of Unix time: ``90m`` or ``2d`` ago, or a date in ISO 8601.

    A date without an offset is in UTC, as all that is shown.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago:
        now = time.time_ns() if now_ns is None else now_ns
        return now - int(ago[1]) * _UNITS_S[ago[2]] * NS_PER_S
    try:
        at = datetime.fromisoformat(text.strip())
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()) * NS_PER_S
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: such as 90m, 12h, 2d, or 2026-11-24T09:00"
        ) from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text[:12]) < 1 << 31):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of events")
    return int(text)


def _events(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.history.events import events  # noqa: PLC0415  each command imports what it needs

    return events(
        arguments.state_dir, last=arguments.last, since=arguments.since, as_json=arguments.json
    )


def _show(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.history.entry import UnreadableError  # noqa: PLC0415  as above
    from otel_oom.commands.history.show import NoSuchEventError, show  # noqa: PLC0415  as above

    try:
        return show(arguments.state_dir, arguments.which, as_json=arguments.json)
    except (NoSuchEventError, UnreadableError) as error:
        sys.stderr.write(f"otel-oom: {error}\n")
        return 1
