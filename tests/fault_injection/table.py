"""The table in docs/reliability.md: the result of each fault, with date and kernel."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Final

from tests.fault_injection.tally import Tally
from tests.testlib.page_block import read_block, write_block
from tests.testlib.repository import REPOSITORY

PAGE: Final = REPOSITORY / "docs/reliability.md"
BLOCK: Final = "faults"

_HEAD: Final = (
    "| fault | crashes | kills counted by the kernel | distinct events | reported by number only "
    "| duplicates, same uid | duplicates, another uid | lost |"
)


def write(tallies: Mapping[str, Tally], page: Path = PAGE) -> None:
    """Write the table of the faults with their tallies into ``page``."""
    write_block(page, BLOCK, table(tallies))


def table(tallies: Mapping[str, Tally]) -> str:
    """Return the table as Markdown, below a line with date, kernel and CPUs."""
    total = Tally(*(sum(column) for column in zip(*map(astuple, tallies.values()), strict=True)))
    rows = [_row(what, tally) for what, tally in tallies.items()]
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return "\n".join(
        (
            f"{date}, kernel {os.uname().release}, {os.cpu_count()} CPUs:",
            "",
            _HEAD,
            "|---|" + "---|" * len(astuple(total)),
            *rows,
            _row("**all**", total),
        )
    )


def faults_of(page: Path = PAGE) -> list[str]:
    """Return the faults that the table of ``page`` has rows of, without the total."""
    rows = re.findall(r"(?m)^\| ([^|]+) \|", read_block(page, BLOCK))
    return [row for row in rows if row not in {"fault", "**all**"}]


def _row(what: str, tally: Tally) -> str:
    return f"| {what} | " + " | ".join(f"{number:,}" for number in astuple(tally)) + " |"
