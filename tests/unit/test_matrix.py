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
                matrix.judged(kernel, scenario, source, passed=True)
    return matrix


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with a table of another time."""
    path = tmp_path / "page.md"
    path.write_text(f"before\n{BEGIN}\n| of another time |\n{END}\nafter\n", encoding="utf-8")
    return path


def test_the_page_shows_what_is_tested() -> None:
    """Its table names the scenarios and the kernels that the code has, and nothing failed."""
    kernels, scenarios, cells = read_matrix(PAGE)
    assert kernels == list(COLUMNS), "make matrix"
    assert scenarios == list(SCENARIOS), "make matrix"
    assert not {FAILED, UNTESTED} & set(cells)


def test_a_whole_table_replaces_the_old_one(page: Path) -> None:
    """What is around it stays; all kernels and scenarios are there, a reason as a note."""
    matrix = _all_passed()
    matrix.absent(COLUMNS[0], "group", "it has no groups")
    matrix.write(page, RELEASES)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "another time" not in text
    assert "(1) it has no groups." in text
    kernels, scenarios, cells = read_matrix(page)
    assert (kernels, scenarios) == (list(COLUMNS), list(SCENARIOS))
    assert "- (1)" in cells


def test_one_failure_stays_and_keeps_the_page(page: Path) -> None:
    """A judgement that passes after one that failed makes nothing good."""
    before = page.read_text(encoding="utf-8")
    matrix = _all_passed()
    matrix.judged(COLUMNS[0], "memcg", "kmsg", passed=False)
    matrix.judged(COLUMNS[0], "memcg", "kmsg", passed=True)
    assert "left as it is" in matrix.write(page, RELEASES)
    assert page.read_text(encoding="utf-8") == before
    assert f"{FAILED} |" in matrix.markdown(RELEASES)


def test_a_part_of_the_kernels_is_no_table_for_the_page(page: Path) -> None:
    """What was not tried is shown as such, and the page is left as it is."""
    matrix = Matrix()
    matrix.judged(COLUMNS[0], "memcg", "kmsg", passed=True)
    assert f"{UNTESTED} ✓" in matrix.markdown({COLUMNS[0]: "1.2.3"})
    assert "left as it is" in matrix.write(page, {COLUMNS[0]: "1.2.3"})
    assert "another time" in page.read_text(encoding="utf-8")
