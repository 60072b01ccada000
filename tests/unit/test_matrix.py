"""The table of kernels, and its copy in docs/kernels.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testlib.repository import REPOSITORY
from tests.vmtest.matrix import COLUMNS, FAILED, UNTESTED, Matrix, read_matrix
from tests.vmtest.scenario_result import SOURCES
from tests.vmtest.scenarios import SCENARIOS

PAGE = REPOSITORY / "docs/kernels.md"
BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"
RELEASES = dict.fromkeys(COLUMNS, "1.2.3")


def _all_passed() -> Matrix:
    matrix = Matrix()
    for kernel in COLUMNS:
        for scenario in SCENARIOS:
            for source in SOURCES:
                matrix.add_result(kernel, scenario, source, passed=True)
    return matrix


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Return a page with an old table."""
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}\n| of another time |\n{END}\nafter\n", encoding="utf-8")
    return path


def test_the_page_has_all_scenarios_and_kernels() -> None:
    """Nothing failed, and nothing is untested."""
    kernels, scenarios, cells = read_matrix(PAGE)
    assert kernels == list(COLUMNS), "make matrix"
    assert scenarios == list(SCENARIOS), "make matrix"
    assert not {FAILED, UNTESTED} & set(cells)


def test_a_complete_table_replaces_the_old_one(page: Path) -> None:
    """The text around it stays, and a reason is a note."""
    matrix = _all_passed()
    matrix.add_absence(COLUMNS[0], "group", "it has no groups")
    matrix.write(page, RELEASES)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "another time" not in text
    assert "(1) it has no groups." in text
    kernels, scenarios, cells = read_matrix(page)
    assert (kernels, scenarios) == (list(COLUMNS), list(SCENARIOS))
    assert "- (1)" in cells


def test_a_failure_keeps_the_old_table(page: Path) -> None:
    """Also if a later check of the same cell passes."""
    before = page.read_text(encoding="utf-8")
    matrix = _all_passed()
    matrix.add_result(COLUMNS[0], "memcg", "kmsg", passed=False)
    matrix.add_result(COLUMNS[0], "memcg", "kmsg", passed=True)
    assert "left as it is" in matrix.write(page, RELEASES)
    assert page.read_text(encoding="utf-8") == before
    assert f"{FAILED} |" in matrix.markdown(RELEASES)


def test_a_part_of_the_kernels_keeps_the_old_table(page: Path) -> None:
    """Untested cells are shown as such."""
    matrix = Matrix()
    matrix.add_result(COLUMNS[0], "memcg", "kmsg", passed=True)
    assert f"{UNTESTED} ✓" in matrix.markdown({COLUMNS[0]: "1.2.3"})
    assert "left as it is" in matrix.write(page, {COLUMNS[0]: "1.2.3"})
    assert "another time" in page.read_text(encoding="utf-8")
