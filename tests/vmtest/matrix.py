"""The table of kernels, scenarios and sources in docs/kernels.md."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.testlib.page_block import read_block, write_block
from tests.vmtest.host_kernel import HOST_KERNEL
from tests.vmtest.kernels import KERNELS
from tests.vmtest.scenario_result import SOURCES
from tests.vmtest.scenarios import SCENARIOS

PASSED: Final = "✓"
ABSENT: Final = "-"
FAILED: Final = "✗"
UNTESTED: Final = "?"

_LEGEND: Final = (
    f"{PASSED}: recorded as the kernel logged and counted it; {FAILED}: not; "
    f"{ABSENT}: not run there, for the reason below."
)

BLOCK: Final = "matrix"

COLUMNS: Final = (*KERNELS, HOST_KERNEL)
"""The columns of the table: the kernels of `kernels.toml`, and the machine's own."""


class Matrix:
    """The results by kernel, scenario and source."""

    def __init__(self) -> None:
        self._passed: dict[tuple[str, str, str], bool] = {}
        self._absent: dict[tuple[str, str], str] = {}

    def add_result(self, kernel: str, scenario: str, source: str, *, passed: bool) -> None:
        """Add the result of a test; a failed one stays."""
        cell = kernel, scenario, source
        self._passed[cell] = passed and self._passed.get(cell, True)

    def add_absence(self, kernel: str, scenario: str, reason: str) -> None:
        """Add the reason why a kernel has no such kill."""
        self._absent[kernel, scenario] = reason

    @property
    def complete(self) -> bool:
        """True if each cell has a result, and none failed."""
        return all(
            set(self._cell(kernel, scenario)) <= {PASSED, ABSENT}
            for kernel in COLUMNS
            for scenario in SCENARIOS
        )

    def markdown(self, releases: Mapping[str, str]) -> str:
        """The table of the kernels in ``releases``, by name; its reasons are notes below it."""
        kernels = [name for name in COLUMNS if name in releases]
        notes: dict[str, int] = {}
        lines = [
            f"{time.strftime('%Y-%m-%d')}. In each cell {' and '.join(SOURCES)}. {_LEGEND}",
            "",
            _row("scenario", *kernels),
            _row(*["---"] * (len(kernels) + 1)),
            _row("release", *(releases[name] for name in kernels)),
        ]
        for scenario, play in SCENARIOS.items():
            what = (play.__doc__ or "").partition("\n")[0].rstrip(".")
            cells = []
            for name in kernels:
                reason = self._absent.get((name, scenario))
                note = f" ({notes.setdefault(reason, len(notes) + 1)})" if reason else ""
                cells.append(" ".join(self._cell(name, scenario)) + note)
            lines.append(_row(f"`{scenario}`: {what}", *cells))
        lines += ["", *(f"({number}) {reason}." + "  " for reason, number in notes.items())]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, page: Path, releases: Mapping[str, str]) -> str:
        """Write the table into ``page``, and return what was done, or why not."""
        if not self.complete:
            return f"{page} is left as it is: the table is not complete, or not all of it passed"
        write_block(page, BLOCK, self.markdown(releases).rstrip("\n"))
        return f"the table is in {page}"

    def _cell(self, kernel: str, scenario: str) -> list[str]:
        if (kernel, scenario) in self._absent:
            return [ABSENT]
        passed = [self._passed.get((kernel, scenario, source)) for source in SOURCES]
        return [{True: PASSED, False: FAILED, None: UNTESTED}[result] for result in passed]


def read_matrix(page: Path) -> tuple[list[str], list[str], str]:
    """Return the kernels and the scenarios of the table in ``page``, and the text of its cells."""
    table = read_block(page, BLOCK)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]
    head, body = rows[0], rows[3:]
    scenarios = [match[1] for row in body if (match := re.match(r"`(\w+)`: ", row[0]))]
    return head[1:], scenarios, " ".join(cell for row in body for cell in row[1:])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
