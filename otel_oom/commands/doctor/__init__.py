"""``otel-oom doctor``: check what this host allows, predict kills, try the endpoints."""

from __future__ import annotations

import argparse
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.commands import Subparsers, add_json, add_state_dir

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Check(Struct, frozen=True):
    """The result of one check; ``advice`` is empty when nothing is to be done."""

    name: str
    state: str
    detail: str
    advice: str = ""

    def downgrade(self) -> Check:
        """Return a warning in place of a failure, where something else takes over."""
        return replace(self, state=WARN) if self.state == FAIL else self


def add_parser(subparsers: Subparsers) -> None:
    """Add ``doctor``."""
    parser = subparsers.add_parser("doctor", help="check this host and the endpoints")
    add_json(parser, "print JSON")
    parser.add_argument(
        "--alive",
        action="store_true",
        help="query the running agent instead: exit code 0 if it captures, stores and delivers",
    )
    add_state_dir(parser, "state directory of the agent (default: as for run)")
    parser.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.alive:
        from otel_oom.commands.doctor.alive import print_liveness  # noqa: PLC0415  as below

        return print_liveness(arguments.state_dir, as_json=arguments.json)
    from otel_oom.commands.doctor.report import print_report  # noqa: PLC0415  each command imports what it needs

    return print_report(arguments.state_dir, as_json=arguments.json)
