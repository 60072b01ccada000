"""A kill that only the kernel's log tells of, under the name that its mark gave it.

What is derived from a record of the kernel side must be the same when the record is gone: the log
knows a thread and a clock of its own, and the kernel side's marks say which process at which time
that was. So a kill that was delivered, forgotten and found again has the uid that it had.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from otel_oom.model.events import OomKill


@dataclass(frozen=True, slots=True)
class KillMark:
    """What names a kill (``struct oom_mark`` of bpf/events.h).

    ``boottime_ns`` is that of its record; ``monotonic_ns`` the same instant on CLOCK_MONOTONIC.
    ``started_ns`` and ``comm`` are ``None`` where the kernel told a number alone, as ``tid``.
    """

    boottime_ns: int
    monotonic_ns: int
    started_ns: int | None
    tgid: int
    tid: int
    comm: str | None


ReadMarks = Callable[[Collection[int]], Sequence[KillMark]]
"""Gives the marks of threads by their ids, as far as they are remembered."""


def match_marks(
    kills: Sequence[OomKill],
    marks: Sequence[KillMark],
    told_at: Callable[[int], int],
    doubt_ns: int,
) -> list[OomKill]:
    """``kills`` of the log, in its order, each with time, process and incident of its mark.

    ``told_at`` gives the time that the log's clock would have for one of CLOCK_MONOTONIC, and
    ``doubt_ns`` by how much the two may be apart. A kill without a mark is named by its line.
    """
    by_thread: dict[int, list[int]] = {}
    for at, mark in enumerate(marks):
        by_thread.setdefault(mark.tid, []).append(at)
    # The line names the thread that was marked; its id may since have been another's.
    apart = [
        (kill.boottime_ns - told_at(marks[mark].monotonic_ns), at, mark)
        for at, kill in enumerate(kills)
        if not kill.skipped
        for mark in by_thread.get(kill.victim.tid or 0, ())
        if marks[mark].comm in {None, kill.victim.comm}
    ]
    likely = [each for each in apart if abs(each[0]) <= doubt_ns]
    # By how much the clocks are apart is nearly the same for all.
    usual = sorted(by for by, _, _ in likely)[len(likely) // 2] if likely else 0
    found = nearest_pairs((abs(by - usual), at, mark) for by, at, mark in likely)
    names: dict[str, str] = {}
    twins = []
    for at, kill in enumerate(kills):
        twin = _marked(kill, marks[found[at]]) if at in found else kill
        names[kill.uid] = twin.uid
        if kill.incident:
            twin = replace(twin, incident=names.get(kill.incident, kill.incident))
        twins.append(twin)
    return twins


def _marked(kill: OomKill, mark: KillMark) -> OomKill:
    return replace(
        kill,
        boottime_ns=mark.boottime_ns,
        time_unix_ns=kill.to_unix_ns(mark.boottime_ns),
        victim=replace(kill.victim, tgid=mark.tgid, start_boottime_ns=mark.started_ns),
        capture=replace(kill.capture, matched_mark=True),
    )


def nearest_pairs(pairs: Iterable[tuple[int, int, int]]) -> dict[int, int]:
    """Of all (distance, one, other) the nearest ones, each one and each other in one at most."""
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, one, other in sorted(pairs):
        if one not in found and other not in taken:
            found[one] = other
            taken.add(other)
    return found
