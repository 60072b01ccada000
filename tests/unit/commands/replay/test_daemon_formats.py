"""Each message of a userspace OOM killer, in the output of each program that keeps its log."""

from __future__ import annotations

import pytest

from otel_oom.model.events import UserspaceKill
from tests.testlib.samples.daemon_messages import (
    DAEMON_FORMATS,
    DAEMON_PRODUCERS,
    DaemonFormat,
    kill_of,
)
from tests.testlib.samples.replay_logs import replay

CELLS = [
    pytest.param(form, producer, id=f"{form.name}-{producer}")
    for form in DAEMON_FORMATS
    for producer in DAEMON_PRODUCERS[form.producers]
]


@pytest.mark.parametrize(("form", "producer"), CELLS)
def test_every_form_is_read_from_every_producer(form: DaemonFormat, producer: str) -> None:
    events = replay(DAEMON_PRODUCERS[form.producers][producer](form.program, form.messages))
    kills = [event for event in events if isinstance(event, UserspaceKill)]
    assert kills == events
    assert [kill_of(kill) for kill in kills] == list(form.kills)
    for kill in kills:
        assert not kill.verified
        assert kill.victim is None or kill.victim.command is None
        assert "--secret" not in kill.original
