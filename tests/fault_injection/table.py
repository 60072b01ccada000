"""The table of the README: what each fault came to, when, and on which kernel."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Final

from tests.fault_injection.tally import Tally
from tests.testlib.repository import REPOSITORY

README: Final = REPOSITORY / "README.md"
BEGIN: Final = "<!-- faults -->"
END: Final = "<!-- /faults -->"

_HEAD: Final = (
    "| fault | crashes | kills, by the kernel | distinct events | missed, told by number "
    "| duplicates, under one uid | again, under another uid | lost |"
)


def write(tallies: Mapping[str, Tally], readme: Path = README) -> None:
    """Put a table of what was done, each with its tally, between the marks of ``readme``."""
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table(tallies)}\n{END}{after}", encoding="utf-8")


def table(tallies: Mapping[str, Tally]) -> str:
    """The table as Markdown, under a line that says when and on what."""
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


def faults_of(readme: Path = README) -> list[str]:
    """What the rows of the README's table are of, but for the last."""
    text = readme.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"(?m)^\| ([^|]+) \|", text)
    return [row for row in rows if row not in {"fault", "**all**"}]


def _row(what: str, tally: Tally) -> str:
    return f"| {what} | " + " | ".join(f"{number:,}" for number in astuple(tally)) + " |"
