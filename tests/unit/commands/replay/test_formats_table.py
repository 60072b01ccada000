"""The table: each form in which a kernel logs a kill, out of what each producer makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.log_forms import FORMS, Form, as_victim
from tests.support.producers import PRODUCERS
from tests.support.replayed import kills


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.number}-{form.name}")
def test_every_form_is_read_from_every_producer(form: Form, producer: str) -> None:
    """As many kills as from the kernel's own lines, with the same of each."""
    told = [kill for kill in kills(PRODUCERS[producer](form.lines)) if not kill.skipped]
    assert [as_victim(kill) for kill in told] == list(form.victims)


def test_the_readme_names_every_producer() -> None:
    """In the order of the table, and no other."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"by the tests: {'; '.join(PRODUCERS)}. So are" in readme
