"""A kill in the store that waits for its encoding, before and after its victim's exit."""

from __future__ import annotations

from msgspec.structs import replace

from otel_oom.store import PendingEvent
from tests.testlib.samples.events import EXIT, KILL, SNAPSHOT

ROW = PendingEvent(
    id=1,
    event=KILL,
    snapshot=SNAPSHOT,
    exit=None,
    reaper_steps=(),
    exit_overdue=False,
    stored_unix_ns=KILL.time_unix_ns,
    log_queued=False,
    span_queued=False,
)
EXITED = replace(ROW, exit=EXIT, log_queued=True)
