"""Each message format of the kernel, in the format of each logging program."""

from __future__ import annotations

import pytest

from tests.testlib.samples.kernel_logs import MESSAGE_FORMATS, MessageFormat, victim_of
from tests.testlib.samples.log_producers import PRODUCERS
from tests.testlib.samples.replay_logs import replay_kills


@pytest.mark.parametrize("producer", PRODUCERS)
@pytest.mark.parametrize("form", MESSAGE_FORMATS, ids=lambda form: f"{form.number}-{form.name}")
def test_every_form_is_read_from_every_producer(form: MessageFormat, producer: str) -> None:
    found = [kill for kill in replay_kills(PRODUCERS[producer](form.lines)) if not kill.skipped]
    assert [victim_of(kill) for kill in found] == list(form.victims)
