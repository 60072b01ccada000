"""A kill that only the kernel's log tells of has the name of its twin, which was told before."""

from __future__ import annotations

import ctypes
import dataclasses
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
ASLEEP = 7 * S
"""How long this host has slept: by so much CLOCK_BOOTTIME is ahead of the log."""


def told(pid: int, at_s: float, tid: int | None = None, comm: str = "java") -> OomKill:
    """A kill as the kernel side's record tells it."""
    victim = replace(
        KILL.victim, tgid=pid, tid=tid or pid, comm=comm, start_boottime_ns=int(at_s * S) - 1
    )
    return replace(KILL, boottime_ns=int(at_s * S), victim=victim)


def mark(of: OomKill) -> KillMark:
    """What the kernel side remembers of a kill."""
    victim = of.victim
    assert victim.tgid is not None
    assert victim.tid is not None
    assert victim.tgid is not None
    return KillMark(
        of.boottime_ns,
        of.boottime_ns - ASLEEP,
        victim.start_boottime_ns,
        victim.tgid,
        victim.tid,
        victim.comm,
    )


def logged(
    of: OomKill, late_s: float = 0.01, line: int = 0, incident: str | None = None
) -> OomKill:
    """The same kill as the log tells it: by a thread, and by a clock of its own."""
    at_ns = of.boottime_ns + int(late_s * S)
    return replace(
        of,
        boottime_ns=at_ns,
        time_unix_ns=KILL.to_unix_ns(at_ns),
        victim=replace(of.victim, tgid=of.victim.tid or 0, start_boottime_ns=None),
        capture=Capture("kmsg", "/dev/kmsg", cpu=None, sequence=line or of.victim.tgid or 0),
        incident=incident,
    )


def twins(kills: list[OomKill], *of: OomKill, doubt_s: float = 1.0) -> list[OomKill]:
    """What they come out as by the marks of those kills."""
    return match_marks(kills, [mark(kill) for kill in of], lambda ns: ns + ASLEEP, int(doubt_s * S))


def test_a_kill_of_the_log_has_the_name_of_its_twin() -> None:
    """Uid, trace and span are the same; time, process and start are the mark's."""
    first = told(4711, 10, tid=4713)
    (again,) = twins([logged(first)], first)
    assert (again.uid, again.trace_id, again.span_id) == (first.uid, first.trace_id, first.span_id)
    assert (again.boottime_ns, again.victim) == (first.boottime_ns, first.victim)
    assert again.time_unix_ns == KILL.to_unix_ns(first.boottime_ns)
    assert again.capture.from_kernel_log
    assert roundtrip(again).uid == first.uid


def test_without_a_mark_a_kill_is_named_by_its_line() -> None:
    """Whoever reads the log again, by whatever clock, has the same name for it."""
    kill = logged(told(4711, 10), line=5)
    assert twins([kill]) == [kill]
    assert replace(kill, boottime_ns=1).uid == kill.uid
    assert replace(kill, capture=replace(kill.capture, sequence=6)).uid != kill.uid


def test_an_id_that_was_used_again_is_the_nearer_ones() -> None:
    """Two victims of one id and name: each has its own mark, in whatever order they are read."""
    before, after = told(1, 10), told(1, 10.4)
    kills = [logged(before, 0.25, line=5), logged(after, 0.25, line=6)]
    assert [kill.uid for kill in twins(kills, after, before)] == [before.uid, after.uid]


def test_a_mark_from_another_time_is_none() -> None:
    """An old victim's name for a new one would be a kill that nobody hears of."""
    old = told(1, 10)
    kill = logged(told(1, 12), line=5)
    assert twins([kill], old) == [kill]
    assert twins([kill], old, doubt_s=3)[0].uid == old.uid


def test_a_mark_of_another_name_is_none() -> None:
    """A number alone, as older kernels tell it, will do; another process will not."""
    first = told(1, 10)
    kill = logged(first, line=5)
    assert twins([kill], told(1, 10, comm="python")) == [kill]
    nameless = dataclasses.replace(mark(first), comm=None, start_boottime_ns=None)
    (found,) = match_marks([kill], [nameless], lambda ns: ns + ASLEEP, S)
    assert (found.uid, found.victim.start_boottime_ns) == (first.uid, None)


def test_a_group_stays_one_incident() -> None:
    """Its members are killed along with the first by that one's own name, as they were told."""
    first, member = told(1, 10), told(2, 10.1)
    line = logged(first)
    found = twins([line, logged(member, incident=line.uid)], first, member)
    assert [kill.incident for kill in found] == [None, first.uid]
    # Where the mark of one of them is no longer known, it belongs to the other all the same.
    found = twins([line, logged(member, incident=line.uid)], member)
    assert [kill.incident for kill in found] == [None, line.uid]
    found = twins([line, logged(member, incident=line.uid)], first)
    assert [kill.incident for kill in found] == [None, first.uid]


def test_who_was_not_killed_has_no_mark() -> None:
    """A victim that was skipped is in the log, and was never marked."""
    kill = replace(logged(told(1, 10)), skipped=True)
    assert twins([kill], told(1, 10)) == [kill]


def test_the_marks_of_some_threads_are_read(tmp_path: Path) -> None:
    """Of a map's 8,192 those that were asked for, names decoded, unknown ones none."""
    table = (MarkRecord * records.MAX_MARKS)()
    table[3] = MarkRecord(10, 9, 8, 4711, 4713, b"ja\xffva")
    table[4] = MarkRecord(20, 19, 0, 7, 7)
    table[5] = MarkRecord(30, 29, 28, 12, 12, b"other")
    path = tmp_path / "map"
    path.write_bytes(bytes(table))
    file = os.open(path, os.O_RDONLY)
    try:
        found = marks.read_marks(file, {0, 7, 4713})
    finally:
        os.close(file)
    assert found == [
        KillMark(10, 9, 8, 4711, 4713, "ja\\xffva"),
        KillMark(20, 19, None, 7, 7, None),
    ]
    assert ctypes.sizeof(table) % os.sysconf("SC_PAGE_SIZE") == 0
