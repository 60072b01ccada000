"""Import of old kernel logs.

``run`` connects the stages: ``log_files`` and ``rotation`` select and date the files,
``decompress`` opens them, ``prefilter`` and ``formats.journal_export`` pass on the lines near
kills, ``formats`` parses them, ``timestamps`` completes their times, ``boots`` and ``events``
extract events, ``deduplicate`` passes each on once, ``send`` or ``show`` is the end.
``kill_signs`` has the first sign of a kill in a file without events.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from otel_oom.commands import Subparsers, add_json, add_state_dir
from otel_oom.commands.replay.hints import add_hints, read_hints
from otel_oom.config.store import read_replay_state_dir


def add_parser(subparsers: Subparsers) -> None:
    """Add ``replay``."""
    parser = subparsers.add_parser("replay", help="import kernel logs of the past")
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="kern.log, syslog, messages, output of dmesg or journalctl, compressed or not; "
        "a directory such as /var/log, of which container logs are not read; - for standard input",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the events, do not send them")
    add_json(parser, "print the events as OTLP/JSON lines, do not send them")
    text = (
        "event log and outbox, not the agent's (default: $STATE_DIRECTORY/replay, else "
        "/var/lib/otel-oom-replay for root, $XDG_STATE_HOME/otel-oom-replay for others)"
    )
    add_state_dir(parser, text, read_replay_state_dir(os.environ))
    add_hints(parser)
    parser.set_defaults(command=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.replay.run import replay  # noqa: PLC0415  each command imports what it needs

    try:
        hints = read_hints(arguments)
    except ValueError as error:
        sys.stderr.write(f"otel-oom: {error}\n")
        return 2
    return replay(
        arguments.files,
        arguments.state_dir,
        dry_run=arguments.dry_run,
        as_json=arguments.json,
        hints=hints,
    )
