"""``otel-oom doctor``: check what this host allows, predict kills, try the endpoints."""

from __future__ import annotations

import argparse
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.commands import Subparsers, add_json

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Check(Struct, frozen=True):
    """The result of one check; ``advice`` is empty when all is well."""

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
    parser.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.doctor.report import print_report  # noqa: PLC0415  each command imports what it needs

    return print_report(as_json=arguments.json)
