"""What was told, held against what the kernel itself counted on this boot.

``/proc/vmstat``'s ``oom_kill`` rises with every ``__oom_kill_process()`` (mm/oom_kill.c), whoever
watches. Where it is ahead of the store, the kernel's log has most of the rest: its "Killed
process" lines are never left out, only overwritten. What it has not either is an event of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from otel_oom.capture.mark_matching import ReadMarks, nearest_pairs
from otel_oom.linux import clock
from otel_oom.model.events import CapturedEvent, MissedKills, OomKill
from otel_oom.store.types import BootTally, StoredKill

if TYPE_CHECKING:
    from otel_oom.capture.kmsg.backlog import KmsgBacklog

_LOG = logging.getLogger(__name__)

_VMSTAT: Final = Path("/proc/vmstat")
_READ_BYTES: Final = 1 << 15
_COUNTER: Final = b"oom_kill"

SOON_S: Final = 1.0
"""A kill is counted before it is marked: a difference counts if it is still there after this."""
EVERY_S: Final = 60.0
"""How often the count is looked at when nothing is told. A look takes 0.1 ms."""

SOURCE: Final = "kmsg"


class Ledger(Protocol):
    """Where the accounts of boots are kept, on the disk."""

    def boot_tally(self, boot_id: str) -> BootTally:
        """The account of a boot; an empty one if nothing is stored of it."""

    def update_tally(
        self, boot_id: str, *, double_counted: int, log_sequence: int, log_starts: bool = False
    ) -> None:
        """Set how far a boot is settled; ``recorded`` and ``missed`` follow what is stored.

        ``log_starts`` is whether nothing up to that line of the log is ever to be told.
        """

    def stored_kills(self, boot_id: str, most: int) -> list[StoredKill]:
        """The newest kills of a boot that are still stored."""


_MOST_STORED: Final = 1 << 14


def counted(vmstat: Path = _VMSTAT) -> int | None:
    """How many kills the kernel has counted on this boot; ``None`` if it does not (before 4.13)."""
    with vmstat.open("rb", buffering=0) as file:
        for line in file.read(_READ_BYTES).splitlines():
            name, _, value = line.partition(b" ")
            if name == _COUNTER and value.isdigit():
                return int(value)
    return None


def missing_kills(logged: Sequence[OomKill], stored: Iterable[StoredKill]) -> list[OomKill]:
    """Those of ``logged`` that are none of ``stored``, in their order.

    A line names a thread, and the clocks of log and mark differ by what cannot be known once the
    host has slept. So a kill is the one of that number and name which is nearest in time, and
    each stored kill is one logged at most.
    """
    lines = {kill.log_sequence for kill in stored if kill.log_sequence is not None}
    open_ = [kill for kill in logged if kill.capture.sequence not in lines]
    marks = [kill for kill in stored if kill.log_sequence is None]
    by_number: dict[int, list[int]] = {}
    for at, mark in enumerate(marks):
        for number in {mark.tgid, mark.tid}:
            if number is not None:
                by_number.setdefault(number, []).append(at)
    found = nearest_pairs(
        (abs(kill.boottime_ns - marks[mark].boottime_ns), at, mark)
        for at, kill in enumerate(open_)
        for number in {kill.victim.tgid, kill.victim.tid}
        for mark in by_number.get(number or 0, ())
        if marks[mark].comm in {None, kill.victim.comm}
    )
    return [kill for at, kill in enumerate(open_) if at not in found]


class Reconciler:
    """Compares, fills in from the log, and tells what is missing.

    Works in the thread that captures, between two drains; all it needs of the log is loaded when
    there is a difference, which is nearly never.
    """

    def __init__(  # noqa: PLR0913  each is named at the call
        self,
        ledger: Ledger,
        boot_id: str,
        drain: Callable[[], object],
        record: Callable[[CapturedEvent], None],
        *,
        marks: ReadMarks | None = None,
        history: bool = True,
        vmstat: Path = _VMSTAT,
    ) -> None:
        """Keep ``ledger`` settled; what it lacks is handed to ``record``, which stores it.

        ``drain`` stores all that the source has by then. ``marks`` is what its kernel side
        remembers, by which a kill has one uid whoever tells of it. Without ``history``, what was
        before this boot was first settled is none of ours.
        """
        self._ledger = ledger
        self._boot_id = boot_id
        self._drain = drain
        self._record = record
        self._marks = marks
        self._history = history
        self._vmstat = vmstat
        self._difference = 0
        self._full = False

    def buffer_was_full(self) -> None:
        """The kernel's ring buffer had no room for a kill since the last comparison."""
        self._full = True

    def compare(self, count: int | None) -> bool:
        """Hold the store against ``count``, read before the source was last drained.

        Returns whether to look again soon: a difference is taken for real when it stays.

        Raises:
            sqlite3.Error: the store does not answer, or takes nothing.
        """
        if count is None:
            return False
        account = self._ledger.boot_tally(self._boot_id)
        if account.log_sequence is None and not self._history:
            return not self._begin(account, count)
        difference = count - account.total
        if difference < 0:
            # Kills since the count was read are in the store already.
            difference = min(0, (counted(self._vmstat) or 0) - account.total)
        if difference != self._difference:
            self._difference = difference
            return True
        self._difference = 0
        if difference > 0:
            self._fill_in(account, count)
        elif difference < 0:
            _LOG.warning("The kernel counts %d kills fewer than were told", -difference)
            # Victims that exited anyway, where the stack could not tell.
            self._settle(account, again=difference)
        elif account.log_sequence is None:
            self._settle(account)
        return False

    def _begin(self, account: BootTally, count: int) -> bool:
        """Take all that was before now for settled; ``False`` while kills come in between."""
        if counted(self._vmstat) != count:
            return False
        again = account.double_counted + count - account.total
        self._ledger.update_tally(
            self._boot_id, double_counted=again, log_sequence=_log_end(), log_starts=True
        )
        return True

    def _settle(self, account: BootTally, *, again: int = 0, sequence: int | None = None) -> None:
        reached = account.log_sequence if sequence is None else sequence
        self._ledger.update_tally(
            self._boot_id,
            double_counted=account.double_counted + again,
            log_sequence=-1 if reached is None else reached,
        )

    def _fill_in(self, account: BootTally, count: int) -> None:
        """Store what only the log has; what is left of the difference is missed."""
        history = self._of_log(-1 if account.log_sequence is None else account.log_sequence)
        # A kill is marked before its line is printed: what the log has is stored after this.
        self._drain()
        if history:
            stored = self._ledger.stored_kills(self._boot_id, _MOST_STORED)
            missing = [kill for kill in missing_kills(history.kills, stored) if kill.counted]
            for kill in missing:
                self._record(kill)
            if missing:
                _LOG.warning("Found in the kernel's log alone: %d kills", len(missing))
            self._settle(account, again=history.again, sequence=history.sequence)
        elif account.log_sequence is None:
            self._settle(account)
        rest = count - self._ledger.boot_tally(self._boot_id).total
        if rest > 0:
            first = account.log_sequence is None
            reason = "before_first_start" if first else "buffer_full" if self._full else "unknown"
            self._miss(rest, count, reason, at_most=history is None)
        self._full = False

    def _of_log(self, after: int) -> KmsgBacklog | None:
        from otel_oom.capture.kmsg import backlog  # noqa: PLC0415  1 MB that is hardly ever needed
        from otel_oom.capture.source import CaptureError  # noqa: PLC0415

        try:
            return backlog.read_kills(self._boot_id, SOURCE, after, self._marks)
        except (CaptureError, OSError) as error:
            _LOG.warning("Nothing can be filled in from the kernel's log. %s", error)
            return None

    def _miss(self, count: int, all_: int, reason: str, *, at_most: bool) -> None:
        now = clock.boottime_ns()
        _LOG.error("The kernel counted %d kills that nothing tells of (%s)", count, reason)
        self._record(
            MissedKills(
                boot_id=self._boot_id,
                boottime_ns=now,
                time_unix_ns=now + clock.boot_to_unix_offset_ns(),
                count=count,
                kernel_count=all_,
                reason=reason,
                upper_bound=at_most,
            )
        )


def _log_end() -> int:
    """The number of the log's last line; -1 if it can't be read."""
    from otel_oom.capture.kmsg import backlog  # noqa: PLC0415  as above
    from otel_oom.capture.source import CaptureError  # noqa: PLC0415

    try:
        return backlog.last_sequence()
    except (CaptureError, OSError):
        return -1
