"""Commands that a person runs. Each module adds its own with ``add_parser(subparsers)``.

``cli`` imports these modules at every start, so each imports late what only the command itself
needs.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from otel_oom.capture.source import PIN_DIR
from otel_oom.config.store import read_state_dir

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  argparse exports no name for it


def add_state_dir(
    parser: argparse.ArgumentParser,
    text: str = "state directory of the agent (default: as for run)",
    default: Path | None = None,
) -> None:
    """Add the option ``--state-dir``, by default that of the agent; ``text`` is its help."""
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=default or read_state_dir(os.environ),
        metavar="DIR",
        help=text,
    )


def add_pin_dir(parser: argparse.ArgumentParser, text: str) -> None:
    """Add the option ``--pin-dir``; ``text`` is its help."""
    parser.add_argument(
        "--pin-dir", type=Path, default=PIN_DIR, metavar="DIR", help=f"{text} (default: {PIN_DIR})"
    )


def add_json(parser: argparse._ActionsContainer, text: str) -> None:
    """Add the option ``--json``; ``text`` is its help."""
    parser.add_argument("--json", action="store_true", help=text)
