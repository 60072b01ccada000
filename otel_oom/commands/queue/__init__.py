"""``otel-oom queue``: count messages to send; list, resend or drop dead letters."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from otel_oom.agent.control_client import ControlClient, open_control_client
from otel_oom.commands import Subparsers, add_json, add_state_dir
from otel_oom.model.channel import channel_exporter, channel_signal


def add_parser(subparsers: Subparsers) -> None:
    """Add ``queue`` and its actions."""
    parser = subparsers.add_parser(
        "queue", help="count messages that wait to be sent, and list dead letters with their reason"
    )
    add_json(parser, "print JSON")
    add_state_dir(parser)
    parser.set_defaults(command=_list)
    actions = parser.add_subparsers(metavar="ACTION")
    for name, done, text in (
        ("resend", "to be sent again", "send dead letters again"),
        ("drop", "dropped", "delete dead letters"),
    ):
        action = actions.add_parser(name, help=text)
        selection = action.add_mutually_exclusive_group(required=True)
        selection.add_argument("uids", nargs="*", default=[], metavar="UID", help="log.record.uid")
        selection.add_argument("--all", action="store_true", help="all of them")
        # Without a value here, the option before the action counts.
        action.add_argument(
            "--state-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR", help="as above"
        )
        action.set_defaults(command=_act, action=name, done=done)


def _list(arguments: argparse.Namespace) -> int:
    with open_control_client(arguments.state_dir) as query:
        queue = query({"method": "queue"})
        letters = [letter for page in _dead_letters(query) for letter in page]
    if arguments.json:
        report = {
            "waiting": [_split_channel(backlog) for backlog in queue["waiting"]],
            "exporters": queue["exporters"],
            "parked": queue["parked"],
            "off": queue["off"],
            "excluded": queue["excluded"],
            "processor_errors": queue["processor_errors"],
            "dead_letters": [_split_channel(letter) for letter in letters],
        }
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return 0
    from otel_oom.commands.console.output import print_page  # noqa: PLC0415  not for --json
    from otel_oom.commands.queue.page import render_queue  # noqa: PLC0415  likewise

    print_page(render_queue(queue, letters, time.time_ns()))
    return 0


def _split_channel(row: Mapping[str, Any]) -> dict[str, Any]:
    channel = row["channel"]
    own = {name: value for name, value in row.items() if name != "channel"}
    return {**own, "signal": channel_signal(channel), "exporter": channel_exporter(channel)}


def _act(arguments: argparse.Namespace) -> int:
    uids, unknown, count = arguments.uids, set(arguments.uids), 0
    with open_control_client(arguments.state_dir) as query:
        for page in _dead_letters(query):
            letters = [letter for letter in page if arguments.all or letter["uid"] in uids]
            unknown.difference_update(letter["uid"] for letter in letters)
            if letters:
                count += query(
                    {"method": arguments.action, "ids": [letter["id"] for letter in letters]}
                )
    sys.stdout.write(f"{count} dead letters {arguments.done}\n")
    for uid in sorted(unknown):
        sys.stderr.write(f"otel-oom: No dead letter has the uid {uid}; see otel-oom queue.\n")
    return int(bool(unknown))


def _dead_letters(query: ControlClient) -> Iterator[list[dict[str, Any]]]:
    """Yield the dead letters by pages, the oldest first.

    Those added meanwhile are left out: a message that is resent and rejected again would never end.
    """
    newest, after = query({"method": "queue"})["newest_dead_letter"], 0
    while after < newest:
        page = query({"method": "dead_letters", "after": after})
        letters = [letter for letter in page if letter["id"] <= newest]
        if not letters:
            return
        yield letters
        after = letters[-1]["id"]
