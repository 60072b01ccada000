"""`otel-oom replay` on the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from otel_oom.commands.options import add_state_dir


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], state_dir: Callable[[], Path]
) -> None:
    """Add it to the command line; ``state_dir`` is where the agent's state is unless said."""
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
    add_state_dir(replay, _state_dir(state_dir), what)
    replay.set_defaults(command=_replay)


def _state_dir(of_agent: Callable[[], Path]) -> Path:
    """A folder that no agent has, and that the user can write to."""
    if os.environ.get("STATE_DIRECTORY"):
        return of_agent() / "replay"
    if os.geteuid() == 0:
        return Path("/var/lib/otel-oom-replay")
    folder = os.environ.get("XDG_STATE_HOME", "")
    # Where there is no home either, the folder that can't be made is named in the error.
    state = folder if folder.startswith("/") else os.path.expanduser("~/.local/state")  # noqa: PTH111  Path's raises
    return Path(state) / "otel-oom-replay"


def _replay(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.replay.run import replay  # noqa: PLC0415  each command imports what it needs

    return replay(
        arguments.files,
        arguments.state_dir,
        dry_run=arguments.dry_run,
        as_json=arguments.json,
    )
