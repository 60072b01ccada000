"""Match kills found in the kernel log to BPF marks, so that both get the same uid.

A uid derives from the victim and the kernel's time. The log has only a thread and a clock of its
own; a mark has the process and the time. So a kill that was delivered, and is read again from the
log once its record is gone, keeps its uid.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.model.events import OomKill


class KillMark(Struct, frozen=True):
    """Identity of a kill (``struct oom_mark`` of bpf/events.h).

    ``boottime_ns`` is that of its record; ``monotonic_ns`` the same instant on CLOCK_MONOTONIC.
    ``start_boottime_ns`` and ``comm`` are ``None`` where the kernel passed a thread id only.
    """

    boottime_ns: int
    monotonic_ns: int
    start_boottime_ns: int | None
    tgid: int
    tid: int
    comm: str | None


ReadMarks = Callable[[Collection[int]], Sequence[KillMark]]
"""Read the marks of threads by their ids, as far as the marks are kept."""


def match_marks(
    kills: Sequence[OomKill],
    marks: Sequence[KillMark],
    log_time_of: Callable[[int], int],
    tolerance_ns: int,
) -> list[OomKill]:
    """Return ``kills`` of the log, in its order, with time, process and incident of their marks.

    ``log_time_of`` converts CLOCK_MONOTONIC to the clock of the log, with an error below
    ``tolerance_ns``. A kill without a mark is identified by its line.
    """
    marks_by_tid: dict[int, list[int]] = {}
    for index, mark in enumerate(marks):
        marks_by_tid.setdefault(mark.tid, []).append(index)
    # The line names the marked thread; its id may have been reused since.
    candidates = [
        (kill.boottime_ns - log_time_of(marks[mark].monotonic_ns), index, mark)
        for index, kill in enumerate(kills)
        if not kill.skipped
        for mark in marks_by_tid.get(kill.victim.tid or 0, ())
        if marks[mark].comm in {None, kill.victim.comm}
    ]
    close = [candidate for candidate in candidates if abs(candidate[0]) <= tolerance_ns]
    # The clocks differ by nearly the same for all kills.
    median = sorted(difference for difference, _, _ in close)[len(close) // 2] if close else 0
    mark_by_kill = nearest_pairs(
        (abs(difference - median), index, mark) for difference, index, mark in close
    )
    new_uids: dict[str, str] = {}
    matched_kills = []
    for index, kill in enumerate(kills):
        matched = _with_mark(kill, marks[mark_by_kill[index]]) if index in mark_by_kill else kill
        new_uids[kill.uid] = matched.uid
        if kill.incident:
            matched = replace(matched, incident=new_uids.get(kill.incident, kill.incident))
        matched_kills.append(matched)
    return matched_kills


def _with_mark(kill: OomKill, mark: KillMark) -> OomKill:
    return replace(
        kill,
        boottime_ns=mark.boottime_ns,
        time_unix_ns=kill.to_unix_ns(mark.boottime_ns),
        victim=replace(kill.victim, tgid=mark.tgid, start_boottime_ns=mark.start_boottime_ns),
        capture=replace(kill.capture, matched_mark=True),
    )


def nearest_pairs(pairs: Iterable[tuple[int, int, int]]) -> dict[int, int]:
    """Map left to right of the nearest (distance, left, right), each used in one pair at most."""
    matched: dict[int, int] = {}
    used: set[int] = set()
    for _, left, right in sorted(pairs):
        if left not in matched and right not in used:
            matched[left] = right
            used.add(right)
    return matched
