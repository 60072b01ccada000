"""Ids of events, and their way through JSON."""

from __future__ import annotations

import uuid

from msgspec.structs import replace

from tests.testlib.samples.events import KILL, PANIC, roundtrip


def test_ids_do_not_depend_on_the_wall_clock() -> None:
    again = replace(KILL, time_unix_ns=KILL.time_unix_ns + 77)
    ids = (KILL.uid, KILL.trace_id, KILL.span_id)
    assert ids == (again.uid, again.trace_id, again.span_id)


def test_uid_is_a_uuid_of_version_8() -> None:
    parsed = uuid.UUID(KILL.uid)
    assert (str(parsed), parsed.version, parsed.variant) == (KILL.uid, 8, uuid.RFC_4122)


def test_boot_time_and_process_change_the_ids() -> None:
    others = [
        replace(KILL, boot_id="another"),
        replace(KILL, boottime_ns=KILL.boottime_ns + 1),
        replace(KILL, victim=replace(KILL.victim, tgid=4712)),
    ]
    for name in ("uid", "trace_id", "span_id"):
        assert len({getattr(kill, name) for kill in [KILL, *others]}) == 4


def test_sizes_of_trace_and_span_ids() -> None:
    assert 0 < KILL.trace_id < 1 << 128
    assert 0 < KILL.span_id < 1 << 64


def test_roundtrip_of_a_kill() -> None:
    logged = replace(KILL, original="a\nb", tasks=KILL.tasks)
    bare = replace(KILL, memory=None, memcg=None)
    for kill in (KILL, bare, replace(KILL, incident="x"), logged):
        assert roundtrip(kill) == kill


def test_a_lone_surrogate_in_a_name_does_not_lose_the_kill() -> None:
    kill = roundtrip(replace(KILL, victim=replace(KILL.victim, executable="/\udc80")))
    assert kill == replace(KILL, victim=replace(KILL.victim, executable="/?"))


def test_uid_of_a_panic_derives_from_its_record() -> None:
    read_again = replace(PANIC, boot_id="", time_unix_ns=1, time_source="record", original="")
    assert read_again.uid == PANIC.uid
    others = [
        replace(PANIC, boottime_ns=PANIC.boottime_ns + 1000),
        replace(PANIC, tid=101),
        replace(PANIC, message=None),
    ]
    assert len({panic.uid for panic in [PANIC, *others]}) == 4


def test_roundtrip_of_a_panic() -> None:
    for panic in (PANIC, replace(PANIC, trigger=None, decision=None, message=None, tid=None)):
        assert roundtrip(panic) == panic
