"""Bytes as a log file of any format, read in blocks of any size and passed on as events.

The first byte is the size of the blocks.
"""

from __future__ import annotations

from typing import Final

from otel_oom.commands.replay.deduplicate import Deduplicator
from otel_oom.linux.kernel_log.report_text import MAX_TEXT_CHARS
from tests.testlib.samples.events import roundtrip
from tests.testlib.samples.replay_logs import replay

_MAX_ORIGINAL_CHARS: Final = MAX_TEXT_CHARS + (1 << 14)


def check_input(data: bytes) -> None:
    """Replay a log; check that each event can be stored, is bounded, and comes once."""
    if not data:
        return
    piece = 1 << (data[0] & 15)
    log = data[1:]
    for event in replay(log, piece=piece, is_named=False):
        assert event.provenance is not None
        assert not event.provenance.is_unverified, "a container's line in a directory"
    events = replay(log, piece=piece)
    assert len(events) <= log.count(b"\n") + log.count(b"\\n") + 1
    deduplicator = Deduplicator()
    for event in events:
        assert event.provenance is not None
        assert len(event.original or "") <= _MAX_ORIGINAL_CHARS
        assert roundtrip(event) == event
        deduplicator.add(event)
        assert not deduplicator.add(event)
