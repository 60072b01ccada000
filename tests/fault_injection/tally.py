"""The telemetry of the backend, compared with the kernel's count and with waitpid(2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from otel_oom.linux import clock
from tests.fault_injection.storm import Death
from tests.testlib.servers.backend import Received

_KILL: Final = "oom.kill"
_COUNTS: Final = {"oom.missed": "oom.missed.count", "oom.dropped": "oom.dropped.count"}
"""The attribute that has the number of kills, by the event that reports them by number."""
_BEFORE: Final = "before_first_start"
_EARLY_NS: Final = 1_000_000_000
_LATE_NS: Final = _EARLY_NS + (clock.boottime_ns() >> 12)
"""The maximum difference of the log's clock, by the accuracy that :class:`LogClock` promises
before it has seen a line as it was printed. No pid is used again that soon.
"""


@dataclass(frozen=True)
class Tally:
    """A row of the table."""

    crashes: int
    kills: int
    """The kernel's own count."""
    events: int
    """The distinct kills that the backend has."""
    missed: int
    """The kills that were reported by their number only."""
    duplicates: int
    """Log records that arrived again with the same uid."""
    other_uid: int
    """Kills that arrived again with another uid, so that no backend can recognize them."""
    lost: int
    """Kills without any record."""


def find_missing(deaths: Iterable[Death], received: Sequence[Received]) -> list[Death]:
    """Return those deaths that no received record is about."""
    times: dict[int, list[int]] = {}
    for record in list(received):
        if record.attributes.get("process.pid"):
            times.setdefault(record.attributes["process.pid"], []).append(_time(record))
    return [
        death
        for death in deaths
        if not any(_around(death, time_ns) for time_ns in times.get(death.pid, ()))
    ]


def compute_tally(  # noqa: PLR0913  each is named at the call
    logs: Sequence[Received],
    spans: Sequence[Received],
    deaths: Sequence[Death],
    *,
    counted: int,
    since_ns: int,
    crashes: int,
    other_kernel: bool = False,
) -> Tally:
    """Compare what was received with the deaths.

    ``counted`` is the rise of the kernel's count since ``since_ns``, in Unix time. With
    ``other_kernel``, the deaths are of another kernel, and this one's own kills do not count.

    Raises:
        AssertionError: a kill has two uids, in its logs or its spans, a uid has two kills, or the
            kernel counted fewer kills than waitpid saw.
    """
    kills = [log for log in logs if log.item.event_name == _KILL and _time(log) >= since_ns]
    counted_logs = [log for log in kills if log.attributes.get("oom.outcome") == _COUNTED]
    if other_kernel:
        counted_logs = [log for log in counted_logs if any(_is_of(log, death) for death in deaths)]
    uids: dict[tuple[int, int], set[str]] = {}
    of_uid: dict[str, tuple[int, int]] = {}
    for log in counted_logs:
        pid, time_ns = _key(log, deaths)
        key = of_uid.setdefault(log.uid, (pid, time_ns))
        # Each conversion of the kernel's time to Unix time differs by some nanoseconds.
        same = key[0] == pid and abs(key[1] - time_ns) < _EARLY_NS
        assert same, f"{log.uid} is of {key} and {pid, time_ns}"
        uids.setdefault(key, set()).add(log.uid)
    for span in list(spans):
        key = _key(span, deaths)
        assert span.uid in uids.get(key, {span.uid}), (
            f"the span {span.uid} is of {key}, {uids[key]}"
        )
    other_uid = sum(len(uids_of_kill) - 1 for uids_of_kill in uids.values())
    duplicates = {key: uids_of_kill for key, uids_of_kill in uids.items() if len(uids_of_kill) > 1}
    assert not duplicates, f"one kill under several uids: {duplicates}"
    assert counted >= len(deaths), f"the kernel counts {counted} kills, waitpid {len(deaths)}"
    by_number = {log.uid: log for log in logs if log.item.event_name in _COUNTS}.values()
    missed = sum(
        log.attributes[_COUNTS[log.item.event_name]]
        for log in by_number
        # Kills before the first start are none of this trial.
        if _time(log) >= since_ns
        and log.attributes.get("oom.missed.reason") != _BEFORE
        and not other_kernel
    )
    without_log = {death.pid for death in find_missing(deaths, [*counted_logs])}
    without_span = {death.pid for death in find_missing(deaths, spans)} - without_log
    return Tally(
        crashes=crashes,
        kills=counted,
        events=len(uids),
        missed=missed,
        duplicates=sum(n - 1 for n in Counter(log.uid for log in counted_logs).values()),
        other_uid=other_uid,
        lost=max(0, counted - len(uids) - missed, len(without_log) - missed) + len(without_span),
    )


_COUNTED: Final = "killed"


def _key(log: Received, deaths: Sequence[Death]) -> tuple[int, int]:
    """Return the identity of a log's kill: its pid, and the time of its death, or its own time."""
    pid, time_ns = log.attributes["process.pid"], _time(log)
    for death in deaths:
        if _is_of(log, death):
            return pid, death.after_ns
    return pid, time_ns


def _is_of(log: Received, death: Death) -> bool:
    return log.attributes["process.pid"] == death.pid and _around(death, _time(log))


def _around(death: Death, time_ns: int) -> bool:
    return death.after_ns - _EARLY_NS <= time_ns <= death.before_ns + _LATE_NS


def _time(record: Received) -> int:
    item = record.item
    return int(item.time_unix_nano if hasattr(item, "time_unix_nano") else mark_time(item))


def mark_time(span: Any) -> int:  # noqa: ANN401  protobuf, or what a tally keeps of it
    """Return the time of the mark in a span, which starts with the approach to the limit."""
    events = {event.name: event.time_unix_nano for event in getattr(span, "events", ())}
    return int(events.get("oom.victim.marked", span.start_time_unix_nano))
