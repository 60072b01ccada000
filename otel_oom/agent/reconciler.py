"""Compare the stored kills with the kernel's own count on this boot, and fill the gap.

``/proc/vmstat``'s ``oom_kill`` rises with every ``__oom_kill_process()`` (mm/oom_kill.c), whether
an agent runs or not. If it is ahead of the store, the kernel log has most of the rest: its "Killed
process" lines are never suppressed, only overwritten. Kills that it lacks too become one event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_oom.capture.kmsg import SOURCE
from otel_oom.capture.mark_matching import ReadMarks, nearest_pairs
from otel_oom.linux import clock
from otel_oom.linux.kernel_log.record_number import is_same_numbering
from otel_oom.linux.kill_count import VMSTAT, read_kill_count
from otel_oom.model.events import CapturedEvent, OomKill
from otel_oom.model.loss import MissedKills
from otel_oom.store import Store
from otel_oom.store.types import BootTally, StoredKill

if TYPE_CHECKING:  # imported late, see _read_backlog()
    from otel_oom.capture.kmsg.backlog import KmsgBacklog

_LOG = logging.getLogger(__name__)

SOON_S: Final = 1.0
"""A kill is counted before it is marked: a difference is real if it persists for this long."""
EVERY_S: Final = 60.0
"""Interval of comparisons without events. One takes 0.1 ms."""

_MAX_STORED: Final = 1 << 14


def missing_kills(logged: Sequence[OomKill], stored: Iterable[StoredKill]) -> list[OomKill]:
    """Return the kills of ``logged`` that are not among ``stored``, in their order.

    A line names a thread, and the clocks of log and mark differ by an unknown amount once the host
    was suspended. So a logged kill matches a stored one with the same number and name, the nearest
    in time. Each stored kill matches at most one.
    """
    stored = list(stored)
    stored_lines = {kill.log_sequence for kill in stored if kill.log_sequence is not None}
    unmatched = [kill for kill in logged if kill.capture.sequence not in stored_lines]
    marks = [kill for kill in stored if not _is_numbered_like(kill, logged)]
    by_number: dict[int, list[int]] = {}
    for index, mark in enumerate(marks):
        for number in {mark.tgid, mark.tid}:
            if number is not None:
                by_number.setdefault(number, []).append(index)
    matched = nearest_pairs(
        (abs(kill.boottime_ns - marks[mark].boottime_ns), index, mark)
        for index, kill in enumerate(unmatched)
        for number in {kill.victim.tgid, kill.victim.tid}
        for mark in by_number.get(number or 0, ())
        if marks[mark].comm in {None, kill.victim.comm}
    )
    return [kill for index, kill in enumerate(unmatched) if index not in matched]


def _is_numbered_like(kill: StoredKill, logged: Sequence[OomKill]) -> bool:
    """Return whether the line of a stored kill has a number that the log has now.

    /dev/kmsg and syslog(2) number lines differently, and the agent can move from one to the other.
    """
    return kill.log_sequence is not None and (
        not logged or is_same_numbering(kill.log_sequence, logged[0].capture.sequence)
    )


class Reconciler:
    """Comparison of the store with the kernel's count, which records or reports missed kills.

    It works in the capturing thread, between two drains. It loads what it needs for the log only if
    there is a difference, which is rare.
    """

    def __init__(  # noqa: PLR0913  each is named at the call
        self,
        store: Store,
        *,
        drain: Callable[[], object],
        record: Callable[[CapturedEvent], None],
        marks: ReadMarks | None = None,
        history: bool = True,
        vmstat: Path = VMSTAT,
    ) -> None:
        """Compare ``store``; ``record`` stores the events that it lacks.

        ``drain`` stores all that the source has by then. ``marks`` reads the marks of the kernel
        side, which give a kill the same uid as its lost record. Without ``history``, kills from
        before the first comparison on this boot are ignored.
        """
        self._store = store
        self._boot_id = clock.boot_id()
        self._drain = drain
        self._record = record
        self._marks = marks
        self._history = history
        self._vmstat = vmstat
        self._difference = 0
        self._buffer_full = False

    def buffer_was_full(self) -> None:
        """Note that the ring buffer dropped a kill since the last comparison."""
        self._buffer_full = True

    def compare(self, count: int | None) -> bool:
        """Compare the store with ``count``, read before the source was last drained.

        Returns true if a difference must be confirmed soon. Raises sqlite3.Error.
        """
        if count is None:
            return False
        tally = self._store.tally.read(self._boot_id)
        if tally.log_sequence is None and not self._history:
            return not self._begin(tally, count)
        difference = count - tally.total
        if difference < 0:
            # Kills since the count was read are in the store already.
            difference = min(0, (read_kill_count(self._vmstat) or 0) - tally.total)
        if difference != self._difference:
            self._difference = difference
            return True
        self._difference = 0
        if difference > 0:
            self._fill_in(tally, count)
        elif difference < 0:
            _LOG.warning("More kills recorded than the kernel counted: %d", -difference)
            # Victims that exited anyway, where the stack did not show it.
            self._settle(tally, double_counted=difference)
        elif tally.log_sequence is None:
            self._settle(tally)
        return False

    def _begin(self, tally: BootTally, count: int) -> bool:
        """Settle all kills up to now; return false while kills come in between."""
        if read_kill_count(self._vmstat) != count:
            return False
        self._store.tally.update(
            self._boot_id,
            double_counted=tally.double_counted + count - tally.total,
            log_sequence=_read_last_sequence(),
            log_starts=True,
        )
        return True

    def _settle(
        self, tally: BootTally, *, double_counted: int = 0, sequence: int | None = None
    ) -> None:
        reached = tally.log_sequence if sequence is None else sequence
        self._store.tally.update(
            self._boot_id,
            double_counted=tally.double_counted + double_counted,
            log_sequence=-1 if reached is None else reached,
        )

    def _fill_in(self, tally: BootTally, count: int) -> None:
        """Record the kills that only the log has; the rest of the difference is missed."""
        backlog = self._read_backlog(-1 if tally.log_sequence is None else tally.log_sequence)
        # A kill is marked before its line is printed: all kills of the log are stored after this.
        self._drain()
        if backlog:
            stored = self._store.tally.stored_kills(self._boot_id, _MAX_STORED)
            missing = [kill for kill in missing_kills(backlog.kills, stored) if kill.counted]
            for kill in missing:
                self._record(kill)
            if missing:
                _LOG.warning("Recovered kills from the kernel log: %d", len(missing))
            self._settle(tally, double_counted=backlog.double_counted, sequence=backlog.sequence)
        elif tally.log_sequence is None:
            self._settle(tally)
        rest = count - self._store.tally.read(self._boot_id).total
        if rest > 0:
            self._report_missed(rest, count, self._reason(tally), at_most=backlog is None)
        self._buffer_full = False

    def _reason(self, tally: BootTally) -> str:
        if tally.log_sequence is None:
            return "before_first_start"
        return "buffer_full" if self._buffer_full else "unknown"

    def _read_backlog(self, after: int) -> KmsgBacklog | None:
        from otel_oom.capture.kmsg import backlog  # noqa: PLC0415  1 MB that is rarely needed
        from otel_oom.capture.source import CaptureError  # noqa: PLC0415

        try:
            return backlog.read_backlog(self._boot_id, SOURCE, after, self._marks)
        except (CaptureError, OSError) as error:
            _LOG.warning("Cannot recover kills from the kernel log: %s", error)
            return None

    def _report_missed(self, missed: int, count: int, reason: str, *, at_most: bool) -> None:
        now = clock.boottime_ns()
        _LOG.error(
            "Missed kills: the kernel counted %d that were not captured (%s)", missed, reason
        )
        self._record(
            MissedKills(
                boot_id=self._boot_id,
                boottime_ns=now,
                time_unix_ns=now + clock.boot_to_unix_offset_ns(),
                count=missed,
                kernel_count=count,
                reason=reason,
                upper_bound=at_most,
            )
        )


def _read_last_sequence() -> int:
    """Return the number of the log's last line; -1 if it can't be read."""
    from otel_oom.capture.kmsg import backlog  # noqa: PLC0415  as above
    from otel_oom.capture.source import CaptureError  # noqa: PLC0415

    try:
        return backlog.read_last_sequence()
    except (CaptureError, OSError):
        return -1
