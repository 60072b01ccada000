"""The event's identity and its way to the disk and back."""

from __future__ import annotations

import uuid

from msgspec.structs import replace

from tests.testlib.samples.events import KILL, PANIC, roundtrip


def test_the_ids_are_derived() -> None:
    """The same kill read twice, at another reading of the clock, keeps all of its ids."""
    again = replace(KILL, time_unix_ns=KILL.time_unix_ns + 77)
    ids = (KILL.uid, KILL.trace_id, KILL.span_id)
    assert ids == (again.uid, again.trace_id, again.span_id)


def test_the_uid_is_a_uuid() -> None:
    """It is a UUID of version 8, the one for values made by one's own rules (RFC 9562)."""
    parsed = uuid.UUID(KILL.uid)
    assert (str(parsed), parsed.version, parsed.variant) == (KILL.uid, 8, uuid.RFC_4122)


def test_every_part_of_the_identity_counts() -> None:
    """Another boot, another moment or another process is another event."""
    others = [
        replace(KILL, boot_id="another"),
        replace(KILL, boottime_ns=KILL.boottime_ns + 1),
        replace(KILL, victim=replace(KILL.victim, tgid=4712)),
    ]
    for name in ("uid", "trace_id", "span_id"):
        assert len({getattr(kill, name) for kill in [KILL, *others]}) == 4


def test_trace_and_span_ids_have_their_sizes() -> None:
    """A trace id has 128 bits and a span id 64, and neither is zero."""
    assert 0 < KILL.trace_id < 1 << 128
    assert 0 < KILL.span_id < 1 << 64


def test_a_kill_survives_the_disk() -> None:
    """What is read back is equal to what was written, absent parts included."""
    logged = replace(KILL, original="a\nb", tasks=KILL.tasks)
    bare = replace(KILL, memory=None, memcg=None)
    for kill in (KILL, bare, replace(KILL, incident="x"), logged):
        assert roundtrip(kill) == kill


def test_a_name_that_utf_8_cannot_encode_does_not_cost_the_kill() -> None:
    kill = roundtrip(replace(KILL, victim=replace(KILL.victim, executable="/\udc80")))
    assert kill == replace(KILL, victim=replace(KILL.victim, executable="/?"))


def test_a_panic_is_named_by_its_record() -> None:
    """Its boot and its wall clock may be known at one start and not at another."""
    told_again = replace(PANIC, boot_id="", time_unix_ns=1, time_source="record", original="")
    assert told_again.uid == PANIC.uid
    others = [
        replace(PANIC, boottime_ns=PANIC.boottime_ns + 1000),
        replace(PANIC, tid=101),
        replace(PANIC, message=None),
    ]
    assert len({panic.uid for panic in [PANIC, *others]}) == 4


def test_a_panic_survives_the_disk() -> None:
    """What is read back is equal to what was written, absent parts included."""
    for panic in (PANIC, replace(PANIC, trigger=None, decision=None, message=None, tid=None)):
        assert roundtrip(panic) == panic
