"""``otel-oom run``: the agent."""

from __future__ import annotations

import argparse
import logging
import os

from otel_oom.commands import Subparsers, add_pin_dir, add_state_dir


def add_parser(subparsers: Subparsers) -> None:
    """Add ``run``."""
    parser = subparsers.add_parser("run", help="run the agent: capture and send until stopped")
    parser.add_argument(
        "--source",
        choices=("auto", "libbpf", "bcc", "kmsg"),
        default="auto",
        help="how kills are captured (default: auto, the best that this host allows)",
    )
    state_dir = "event log and outbox (default: $STATE_DIRECTORY, else /var/lib/otel-oom)"
    add_state_dir(parser, state_dir)
    add_pin_dir(parser, "bpffs directory of the BPF programs that capture between two runs")
    parser.add_argument(
        "--no-pin",
        action="store_true",
        help="unload the BPF programs when the agent ends (default: they stay and capture)",
    )
    parser.add_argument(
        "--command-line",
        action="store_true",
        help="record the victim's command line, with secrets redacted (default: off)",
    )
    parser.add_argument(
        "--no-history",
        dest="history",
        action="store_false",
        help="ignore kills of this boot that happened before the first start",
    )
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from otel_oom.agent.log_stream import install_log_stream  # noqa: PLC0415  each command imports what it needs
    from otel_oom.capture import open_source, start_attaching  # noqa: PLC0415  likewise
    from otel_oom.linux.heap import share_heap  # noqa: PLC0415  likewise

    share_heap()  # before the first thread
    install_log_stream()
    options = {
        "want_command": arguments.command_line,
        "pin_dir": None if arguments.no_pin else arguments.pin_dir,
    }
    attaching = start_attaching(arguments.source, **options)
    try:
        from otel_oom.agent import startup  # noqa: PLC0415  while the kernel verifies the programs
        from otel_oom.config.agent import read_agent_config  # noqa: PLC0415  likewise

        config = read_agent_config(os.environ)
        logging.getLogger().setLevel(config.log_level)
        startup.run(
            open_source(arguments.source, **options, attaching=attaching),
            config,
            arguments.state_dir,
            history=arguments.history,
            want_command=arguments.command_line,
        )
    finally:
        if attaching:
            attaching.cancel()
    return 0
