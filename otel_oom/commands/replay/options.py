"""`otel-oom replay` on the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from otel_oom.commands.options import add_state_dir
from otel_oom.config.state_dir import read_replay_state_dir


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command ``replay``."""
    replay = commands.add_parser(
        "replay", help="kernel logs of the past, sent as what was captured"
    )
    replay.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="kern.log, syslog, messages, dmesg's or journalctl's output, packed or not; "
        "a folder such as /var/log; - for the standard input",
    )
    replay.add_argument(
        "--dry-run", action="store_true", help="show what is found instead of sending it"
    )
    replay.add_argument(
        "--json", action="store_true", help="show it as OTLP/JSON lines instead of sending it"
    )
    what = (
        "journal and outbox, not the agent's (default: $STATE_DIRECTORY/replay, else "
        "/var/lib/otel-oom-replay for root, $XDG_STATE_HOME/otel-oom-replay for others)"
    )
    add_state_dir(replay, read_replay_state_dir(os.environ), what)
    replay.set_defaults(command=_replay)


def _replay(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.replay.run import replay  # noqa: PLC0415  each command imports what it needs

    return replay(
        arguments.files,
        arguments.state_dir,
        dry_run=arguments.dry_run,
        as_json=arguments.json,
    )
