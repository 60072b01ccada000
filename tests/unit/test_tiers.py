"""The Makefile leaves out no folder that has a test of the goal."""

from __future__ import annotations

import re

import pytest

from tests.testlib.repository import REPOSITORY
from tests.testlib.tiers import FOLDER_TIERS


@pytest.mark.parametrize(
    ("variable", "tiers"), [("ROOT_FOLDERS", {"root", "vm"}), ("SLOW_FOLDERS", {"slow"})]
)
def test_each_folder_that_is_not_collected_is_of_another_tier(
    variable: str, tiers: set[str]
) -> None:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    line = re.search(rf"^{variable} := \$\(addprefix --ignore=tests/,(.+)\)$", text, re.MULTILINE)
    assert line
    assert [name for name in line[1].split() if not tiers & {*FOLDER_TIERS[name]}] == []
