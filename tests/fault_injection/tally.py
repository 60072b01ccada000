"""What the backend has, against what the kernel has counted and waitpid has told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from otel_oom.linux import clock
from tests.fault_injection.storm import Death
from tests.testlib.servers.backend import Received

_KILL: Final = "oom.kill"
_MISSED: Final = "oom.missed"
_BEFORE: Final = "before_first_start"
_EARLY_NS: Final = 1_000_000_000
_LATE_NS: Final = _EARLY_NS + (clock.boottime_ns() >> 12)
"""By how much the log's clock may differ from ours, by what :class:`LogClock` promises for one that
has not seen a line as it was printed. No pid comes again so soon."""


@dataclass(frozen=True)
class Tally:
    """One row of the table."""

    crashes: int
    kills: int
    """By the kernel's own count."""
    events: int
    """Distinct kills that the backend has."""
    missed: int
    """Kills that it has been told of by their number alone."""
    duplicates: int
    """Log records that came again under the uid of their twin."""
    again: int
    """Kills that came again under another uid, by which no backend knows them for the same."""
    lost: int
    """Kills that nothing tells of."""


def untold(deaths: Iterable[Death], received: Sequence[Received]) -> list[Death]:
    """Those of ``deaths`` that nothing received is of."""
    times: dict[int, list[int]] = {}
    for one in list(received):
        if one.attributes.get("process.pid"):
            times.setdefault(one.attributes["process.pid"], []).append(_time(one))
    return [
        death
        for death in deaths
        if not any(_around(death, time_ns) for time_ns in times.get(death.pid, ()))
    ]


def judge(  # noqa: PLR0913  each is named at the call
    logs: Sequence[Received],
    spans: Sequence[Received],
    deaths: Sequence[Death],
    *,
    counted: int,
    since_ns: int,
    crashes: int,
    elsewhere: bool = False,
) -> Tally:
    """Hold one against the other.

    ``counted`` is by how much the kernel's count has risen since ``since_ns``, in Unix time. What
    died ``elsewhere`` was killed by another kernel, and what this one has killed meanwhile is none
    of ours.

    Raises:
        AssertionError: a kill has two uids, in its logs or its spans, a uid has two kills, or the
            kernel has not killed whom we saw killed.
    """
    kills = [log for log in logs if log.item.event_name == _KILL and _time(log) >= since_ns]
    told = [log for log in kills if log.attributes.get("oom.outcome") == _COUNTED]
    if elsewhere:
        told = [log for log in told if any(_is_of(log, death) for death in deaths)]
    uids: dict[tuple[int, int], set[str]] = {}
    of_uid: dict[str, tuple[int, int]] = {}
    for log in told:
        pid, time_ns = _key(log, deaths)
        key = of_uid.setdefault(log.uid, (pid, time_ns))
        # The kernel's time in Unix time is another by some nanoseconds whenever it is asked for.
        one = key[0] == pid and abs(key[1] - time_ns) < _EARLY_NS
        assert one, f"{log.uid} is of {key} and {pid, time_ns}"
        uids.setdefault(key, set()).add(log.uid)
    for span in list(spans):
        key = _key(span, deaths)
        assert span.uid in uids.get(key, {span.uid}), (
            f"the span {span.uid} is of {key}, {uids[key]}"
        )
    again = sum(len(found) - 1 for found in uids.values())
    twice = {key: found for key, found in uids.items() if len(found) > 1}
    assert not twice, f"one kill under several uids: {twice}"
    assert counted >= len(deaths), f"the kernel counts {counted} kills, we saw {len(deaths)}"
    missed = sum(
        log.attributes["oom.missed.count"]
        for log in {log.uid: log for log in logs if log.item.event_name == _MISSED}.values()
        # What was before the first start was before us.
        if _time(log) >= since_ns
        and log.attributes["oom.missed.reason"] != _BEFORE
        and not elsewhere
    )
    without = {death.pid for death in untold(deaths, [*told])}
    spanless = {death.pid for death in untold(deaths, spans)} - without
    return Tally(
        crashes=crashes,
        kills=counted,
        events=len(uids),
        missed=missed,
        duplicates=sum(n - 1 for n in Counter(log.uid for log in told).values()),
        again=again,
        lost=max(0, counted - len(uids) - missed, len(without) - missed) + len(spanless),
    )


_COUNTED: Final = "killed"


def _key(log: Received, deaths: Sequence[Death]) -> tuple[int, int]:
    """Which kill a log record is of: its pid, and when we saw that one, or its own time."""
    pid, time_ns = log.attributes["process.pid"], _time(log)
    for death in deaths:
        if _is_of(log, death):
            return pid, death.after_ns
    return pid, time_ns


def _is_of(log: Received, death: Death) -> bool:
    return log.attributes["process.pid"] == death.pid and _around(death, _time(log))


def _around(death: Death, time_ns: int) -> bool:
    return death.after_ns - _EARLY_NS <= time_ns <= death.before_ns + _LATE_NS


def _time(one: Received) -> int:
    item = one.item
    return int(
        item.time_unix_nano if hasattr(item, "time_unix_nano") else item.start_time_unix_nano
    )
