"""docs/causes.md, compared with the rules and the tests that it names."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from otel_oom.enrich import advice
from otel_oom.enrich.finding import Cause
from tests.testlib.repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "causes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("title", "rules"),
    [
        ("At the limit of a cgroup", advice.CGROUP_RULES),
        ("At the memory of the host", advice.HOST_RULES),
    ],
)
def test_rules_are_in_the_order_in_which_they_are_tried(
    title: str, rules: tuple[object, ...]
) -> None:
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    listed = re.findall(r"(?m)^\| `(\w+)\.(\w+)` \|", section)
    functions = [(rule.__module__, rule.__name__) for rule in rules]  # type: ignore[attr-defined]
    assert listed == [(module.rpartition(".")[2], name) for module, name in functions]


def test_each_cause_is_on_the_page() -> None:
    assert all(f"`{cause}`" in PAGE for cause in get_args(Cause))


def test_each_real_kill_is_that_of_a_test() -> None:
    named = re.findall(r"`(tests/[\w/.]+)` `(test_\w+)`(?: \(([`\w, -]+)\))?", PAGE)
    assert len(named) > 15
    for path, function, scenarios in named:
        source = (REPOSITORY / path).read_text(encoding="utf-8")
        assert f"def {function}(" in source, (path, function)
        for scenario in re.findall(r"[\w-]+", scenarios):
            assert f'"{scenario}"' in source, (path, scenario)
