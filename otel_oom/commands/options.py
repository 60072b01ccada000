"""Words of the command line that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

AGENTS: Final = "the agent's folder (default: as for run)"


def add_state_dir(parser: argparse.ArgumentParser, default: Path, what: str = AGENTS) -> None:
    """Let ``parser`` be told the state folder; ``what`` is its help."""
    parser.add_argument("--state-dir", type=Path, default=default, metavar="DIR", help=what)
