"""``otel-oom unit``: print the systemd unit for this installation."""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

from otel_oom.commands import Subparsers
from otel_oom.config.variable import ConfigError

UNIT: Final = Path(__file__).with_name("otel-oom.service")
PROGRAM: Final = Path("/opt/otel-oom/bin/otel-oom")
"""The program that the file of the unit names."""

_HOMES: Final = tuple(map(Path, ("/home", "/root", "/run/user")))
"""The folders that ProtectHome= hides, by systemd.exec(5)."""
_TEMPORARY: Final = tuple(map(Path, ("/tmp", "/var/tmp")))  # noqa: S108  nothing is written there


def add_parser(subparsers: Subparsers) -> None:
    """Add ``unit``."""
    parser = subparsers.add_parser("unit", help="print the systemd unit for this installation")
    parser.set_defaults(command=_print_unit)


def _print_unit(_arguments: argparse.Namespace) -> int:
    sys.stdout.write(render_unit(find_program(), Path(os.path.realpath(sys.executable))))
    return 0


def find_program() -> Path:
    """Return the path of the running ``otel-oom``, else of the one that pip installed here."""
    started = Path(sys.argv[0]).absolute()
    if started.name == PROGRAM.name:
        return started
    return Path(sysconfig.get_path("scripts"), PROGRAM.name)


def render_unit(program: Path, interpreter: Path) -> str:
    """Return the unit that starts ``program``, which ``interpreter`` runs.

    A program below a home needs ``ProtectHome=read-only``: systemd would hide it otherwise.

    Raises:
        ConfigError: there is no such program, or it is in a folder that the unit can't see.
    """
    if not program.exists():
        raise ConfigError(f"There is no {program}: install otel-oom, then run its `otel-oom unit`")
    for path in (program, interpreter):
        if any(path.is_relative_to(hidden) for hidden in _TEMPORARY):
            raise ConfigError(
                f"{path} is in a temporary folder, which PrivateTmp= hides from the service: "
                f"install otel-oom elsewhere, for example in {PROGRAM.parents[1]}"
            )
    text = UNIT.read_text(encoding="utf-8")
    text = text.replace(f"ExecStart={PROGRAM} ", f"ExecStart={_quote(program)} ")
    if any(path.is_relative_to(home) for path in (program, interpreter) for home in _HOMES):
        text = text.replace("\nProtectHome=yes\n", "\nProtectHome=read-only\n")
    return text


def _quote(program: Path) -> str:
    """Quote a path for ``ExecStart=``, by systemd.service(5) and systemd.unit(5)."""
    text = str(program).replace("%", "%%")
    if not set(text) & set(" ;\"'\\"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
