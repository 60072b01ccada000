"""``otel-oom demo``: one real OOM kill, from the kernel to OTLP, with no backend needed.

The agent is the real one, in a process of its own. The kill is real, in a memory cgroup made for
it. The backend is a receiver on the loopback interface; what it receives is printed, and sent on to
the user's own backend if the environment names one.
"""

from __future__ import annotations

import argparse

from otel_oom.commands import Subparsers, add_json


def add_parser(subparsers: Subparsers) -> None:
    """Add ``demo``."""
    parser = subparsers.add_parser("demo", help="make one real OOM kill and print its telemetry")
    add_json(parser, "print OTLP/JSON lines")
    parser.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.demo.run import run_demo  # noqa: PLC0415  each command imports what it needs

    return run_demo(as_json=arguments.json)
