"""Matching of kills in the kernel log to marks."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from msgspec.structs import replace

from otel_oom.capture.bpf import marks, records
from otel_oom.capture.bpf.records import MarkRecord
from otel_oom.capture.mark_matching import KillMark, match_marks
from otel_oom.model.events import OomKill
from otel_oom.model.types import Capture
from tests.testlib.samples.events import KILL, roundtrip

S = 1_000_000_000
SUSPENDED_NS = 7 * S
"""Time that the host was suspended, by which CLOCK_BOOTTIME is ahead of the log."""


def captured_kill(pid: int, time_s: float, tid: int | None = None, comm: str = "java") -> OomKill:
    """Return a kill as BPF captures it."""
    victim = replace(
        KILL.victim, tgid=pid, tid=tid or pid, comm=comm, start_boottime_ns=int(time_s * S) - 1
    )
    return replace(KILL, boottime_ns=int(time_s * S), victim=victim)


def mark_of(kill: OomKill) -> KillMark:
    """Return the mark of a kill."""
    victim = kill.victim
    assert victim.tgid is not None
    assert victim.tid is not None
    assert victim.tgid is not None
    return KillMark(
        kill.boottime_ns,
        kill.boottime_ns - SUSPENDED_NS,
        victim.start_boottime_ns,
        victim.tgid,
        victim.tid,
        victim.comm,
    )


def logged_kill(
    kill: OomKill, delay_s: float = 0.01, line: int = 0, incident: str | None = None
) -> OomKill:
    """Return the same kill as read from the log: a thread, at the time of another clock."""
    time_ns = kill.boottime_ns + int(delay_s * S)
    return replace(
        kill,
        boottime_ns=time_ns,
        time_unix_ns=KILL.to_unix_ns(time_ns),
        victim=replace(kill.victim, tgid=kill.victim.tid or 0, start_boottime_ns=None),
        capture=Capture("kmsg", "/dev/kmsg", cpu=None, sequence=line or kill.victim.tgid or 0),
        incident=incident,
    )


def match(kills: list[OomKill], *marked: OomKill, tolerance_s: float = 1.0) -> list[OomKill]:
    """Match kills of the log to the marks of others."""
    return match_marks(
        kills,
        [mark_of(kill) for kill in marked],
        lambda ns: ns + SUSPENDED_NS,
        int(tolerance_s * S),
    )


def test_matched_kill_has_the_uid_of_its_mark() -> None:
    first = captured_kill(4711, 10, tid=4713)
    (matched,) = match([logged_kill(first)], first)
    assert (matched.uid, matched.trace_id, matched.span_id) == (
        first.uid,
        first.trace_id,
        first.span_id,
    )
    assert (matched.boottime_ns, matched.victim) == (first.boottime_ns, first.victim)
    assert matched.time_unix_ns == KILL.to_unix_ns(first.boottime_ns)
    assert matched.capture.from_kernel_log
    assert roundtrip(matched).uid == first.uid


def test_uid_without_a_mark_is_that_of_the_line() -> None:
    """The uid does not depend on a clock."""
    kill = logged_kill(captured_kill(4711, 10), line=5)
    assert match([kill]) == [kill]
    assert replace(kill, boottime_ns=1).uid == kill.uid
    assert replace(kill, capture=replace(kill.capture, sequence=6)).uid != kill.uid


def test_reused_id_matches_the_nearest_mark() -> None:
    before, after = captured_kill(1, 10), captured_kill(1, 10.4)
    kills = [logged_kill(before, 0.25, line=5), logged_kill(after, 0.25, line=6)]
    assert [kill.uid for kill in match(kills, after, before)] == [before.uid, after.uid]


def test_mark_of_another_time_does_not_match() -> None:
    """A new kill with an old one's uid would be lost as a duplicate."""
    old = captured_kill(1, 10)
    kill = logged_kill(captured_kill(1, 12), line=5)
    assert match([kill], old) == [kill]
    assert match([kill], old, tolerance_s=3)[0].uid == old.uid


def test_mark_of_another_name_does_not_match() -> None:
    """Older kernels mark an id without a name, which matches."""
    first = captured_kill(1, 10)
    kill = logged_kill(first, line=5)
    assert match([kill], captured_kill(1, 10, comm="python")) == [kill]
    nameless = replace(mark_of(first), comm=None, start_boottime_ns=None)
    (matched,) = match_marks([kill], [nameless], lambda ns: ns + SUSPENDED_NS, S)
    assert (matched.uid, matched.victim.start_boottime_ns) == (first.uid, None)


def test_group_keeps_one_incident() -> None:
    first, member = captured_kill(1, 10), captured_kill(2, 10.1)
    line = logged_kill(first)
    matched = match([line, logged_kill(member, incident=line.uid)], first, member)
    assert [kill.incident for kill in matched] == [None, first.uid]
    # Without the mark of one member the incident stays the same.
    matched = match([line, logged_kill(member, incident=line.uid)], member)
    assert [kill.incident for kill in matched] == [None, line.uid]
    matched = match([line, logged_kill(member, incident=line.uid)], first)
    assert [kill.incident for kill in matched] == [None, first.uid]


def test_skipped_victim_does_not_match() -> None:
    """It is in the log, but was never marked."""
    kill = replace(logged_kill(captured_kill(1, 10)), skipped=True)
    assert match([kill], captured_kill(1, 10)) == [kill]


def test_marks_of_threads_are_read(tmp_path: Path) -> None:
    table = (MarkRecord * records.MAX_MARKS)()
    table[3] = MarkRecord(10, 9, 8, 4711, 4713, b"ja\xffva")
    table[4] = MarkRecord(20, 19, 0, 7, 7)
    table[5] = MarkRecord(30, 29, 28, 12, 12, b"other")
    path = tmp_path / "map"
    path.write_bytes(bytes(table))
    file = os.open(path, os.O_RDONLY)
    try:
        read = marks.read_marks(file, {0, 7, 4713})
    finally:
        os.close(file)
    assert read == [
        KillMark(10, 9, 8, 4711, 4713, "ja\\xffva"),
        KillMark(20, 19, None, 7, 7, None),
    ]
    assert ctypes.sizeof(table) % os.sysconf("SC_PAGE_SIZE") == 0
