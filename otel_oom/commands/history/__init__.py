"""The host's history: the list of its events, the page of one event, and the report of all.

``queries`` reads rows of the event log. ``entry`` returns each event as OTLP: the encoded copy, or
a fresh encoding if it was not queued yet. ``table`` and ``page`` show what is decoded from that, so
that a page and a backend say the same.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import UTC, datetime
from typing import Final

from otel_oom.commands import Subparsers, add_json, add_state_dir
from otel_oom.model.units import NS_PER_S

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO: Final = re.compile(r"(\d{1,9})\s*([smhdw])", re.ASCII)
_COUNT: Final = re.compile(r"0*[1-9]\d{0,8}", re.ASCII)


def add_parser(subparsers: Subparsers) -> None:
    """Add ``events``, ``show`` and ``report``."""
    events = subparsers.add_parser("events", help="list recent OOM kills, the newest last")
    events.add_argument(
        "--last", type=_count, metavar="N", help="at most N (default: 20, or all with --since)"
    )
    events.add_argument(
        "--since",
        type=parse_time_ns,
        metavar="WHEN",
        help="only newer ones: 90m, 12h, 2d or 1w ago, or a time in ISO 8601, in UTC",
    )
    events.add_argument(
        "--follow",
        action="store_true",
        help="print new events as they are stored, until interrupted",
    )
    events.set_defaults(command=_events)
    show = subparsers.add_parser("show", help="show everything about one OOM kill")
    show.add_argument(
        "id",
        nargs="?",
        default="last",
        metavar="ID",
        help="the beginning of its log.record.uid, its process id, or last (default)",
    )
    show.set_defaults(command=_show)
    report = subparsers.add_parser("report", help="sum up the OOM kills of this host")
    report.add_argument(
        "--since",
        type=parse_time_ns,
        default="7d",
        metavar="WHEN",
        help="the oldest, as for events (default: 7d)",
    )
    report.set_defaults(command=_report)
    add_json(events, "print OTLP/JSON lines")
    for parser, form in ((show, "OTLP/JSON lines"), (report, "JSON")):
        outputs = parser.add_mutually_exclusive_group()
        add_json(outputs, f"print {form}")
        outputs.add_argument(
            "--html",
            metavar="FILE",
            help="write one HTML page to hand on, without scripts; - is standard output",
        )
    for parser in (events, show, report):
        add_state_dir(parser)


def parse_time_ns(text: str, now_ns: int | None = None) -> int:
    """Parse ``90m`` or ``2d`` ago, or a date in ISO 8601, to nanoseconds of Unix time.

    A date without an offset is in UTC, like all output. Raises argparse.ArgumentTypeError.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago:
        now_ns = time.time_ns() if now_ns is None else now_ns
        return now_ns - int(ago[1]) * _UNITS_S[ago[2]] * NS_PER_S
    try:
        date = datetime.fromisoformat(text.strip())
        return int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()) * NS_PER_S
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"invalid time {text!r}: use 90m, 12h, 2d or 2026-11-24T09:00"
        ) from None


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"invalid number of events {text!r}")
    return int(text)


def _events(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.history.events import print_events  # noqa: PLC0415  each command imports what it needs

    if arguments.follow:
        from otel_oom.commands.history.follow import follow_events  # noqa: PLC0415  as above

        follow_events(
            arguments.state_dir, last=arguments.last, since=arguments.since, as_json=arguments.json
        )
    return print_events(
        arguments.state_dir, last=arguments.last, since=arguments.since, as_json=arguments.json
    )


def _show(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.history.entry import UndecodableEventError  # noqa: PLC0415  as above
    from otel_oom.commands.history.show import NoSuchEventError, show_event  # noqa: PLC0415  as above

    try:
        return show_event(
            arguments.state_dir, arguments.id, as_json=arguments.json, html=arguments.html
        )
    except (NoSuchEventError, UndecodableEventError) as error:
        sys.stderr.write(f"otel-oom: {error}\n")
        return 1


def _report(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.history.report.run import print_report  # noqa: PLC0415  as above

    return print_report(
        arguments.state_dir, arguments.since, as_json=arguments.json, html=arguments.html
    )
