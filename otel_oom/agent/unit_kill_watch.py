"""Compare the kills by systemd-oomd with systemd's own count of them for each unit.

A kill whose message the journal lost is one that no other source has. The kernel's kills need no
such comparison: the reconciler compares them with the kernel's count.

systemd-oomd counts its actions in an attribute of the cgroup, also those that find no process. So
a unit is reported only if its count rose while the agent ran, and no event of that time is of this
unit. The owner of a delegated cgroup can write the attribute: such units are left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

from msgspec import Struct

from otel_oom.capture.userspace.daemons import SYSTEMD_OOMD, installed_daemons
from otel_oom.linux import clock
from otel_oom.linux.systemd.unit_kills import UnitKills, read_unit_kills
from otel_oom.linux.systemd.units import find_units
from otel_oom.model.events import OomKill, StoredEvent, UserspaceKill
from otel_oom.model.loss import MissedKills
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.units import NS_PER_S
from otel_oom.store import Store
from otel_oom.store.types import decode_event

_LOG = logging.getLogger(__name__)

KERNEL: Final = "kernel"
OOMD: Final = "systemd-oomd"
INTERVAL_S: Final = 300.0
"""A query of a host with 300 units takes systemd 0.1 s."""
_SLACK_NS: Final = 60 * NS_PER_S
"""systemd counts an action later than the event's time."""
_MAX_EVENTS: Final = 4096
_MAX_REPORTED: Final = 64

ReadCounts = Callable[[], list[UnitKills] | None]


class _Rise(Struct, frozen=True):
    """A rise of a unit's count since ``since_unix_ns``."""

    unit: str
    count: int
    since_unix_ns: int


class UnitKillWatch:
    """The counts of the last query, and the rises that no event explains yet."""

    def __init__(self, store: Store, read_counts: ReadCounts = read_unit_kills) -> None:
        self._store = store
        self._read_counts = read_counts
        self._boot_id = clock.boot_id()
        self._previous: dict[str, int] | None = None
        self._previous_unix_ns = 0
        self._rises: list[_Rise] = []

    def compare(self) -> list[MissedKills] | None:
        """Store and return the kills that were missed; ``None`` where systemd counts none.

        A rise is reported at the next comparison: a message can be late. Raises sqlite3.Error.
        """
        counted = self._read_counts()
        if counted is None:
            return None
        now_unix_ns = time.time_ns()
        missed: list[MissedKills] = []
        unexplained = self._find_unexplained()
        for rise in unexplained[:_MAX_REPORTED]:
            event = self._build_event(rise)
            self._store.insert(event, Snapshot(process_found=False))
            # If the next one can't be stored, this one must not be reported again.
            self._rises.remove(rise)
            missed.append(event)
            _LOG.error("Missed kills: systemd-oomd counted %d in %s", event.count, event.unit)
        if left_out := unexplained[_MAX_REPORTED:]:
            _LOG.error(
                "Missed kills: more units than are reported: left_out=%d kills=%d",
                len(left_out),
                sum(rise.count for rise in left_out),
            )
        counts = {
            each.unit: each.oomd
            for each in counted
            if not each.is_delegated and not each.unit.endswith(".slice")
        }
        self._rises = self._find_rises(counts)
        self._previous, self._previous_unix_ns = counts, now_unix_ns
        return missed

    def _find_rises(self, counts: dict[str, int]) -> list[_Rise]:
        if self._previous is None:
            return []
        rises = []
        for unit, total in counts.items():
            before = self._previous.get(unit, 0)
            # The count of a unit that was started again begins at zero.
            count = total - before if total >= before else total
            if count:
                rises.append(_Rise(unit, count, self._previous_unix_ns - _SLACK_NS))
        return rises

    def _find_unexplained(self) -> list[_Rise]:
        if not self._rises:
            return []
        since_unix_ns = min(rise.since_unix_ns for rise in self._rises)
        recorded = recorded_units(self._read_events(since_unix_ns))
        return [rise for rise in self._rises if (rise.unit, OOMD) not in recorded]

    def _read_events(self, since_unix_ns: int) -> list[StoredEvent]:
        """Return the events that were stored since then, at most the newest 4,096."""
        events: list[StoredEvent] = []
        last: int | None = None
        for _ in range(_MAX_EVENTS):
            rows = self._store.history.page_before(last)
            for row in rows:
                if row.stored_unix_ns < since_unix_ns or len(events) >= _MAX_EVENTS:
                    return events
                try:
                    events.append(decode_event(row.kind, row.event))
                except (ValueError, TypeError, LookupError):
                    continue
            if not rows:
                break
            last = rows[-1].id
        return events

    def _build_event(self, rise: _Rise) -> MissedKills:
        now_ns = clock.boottime_ns()
        return MissedKills(
            boot_id=self._boot_id,
            boottime_ns=now_ns,
            time_unix_ns=now_ns + clock.boot_to_unix_offset_ns(),
            count=rise.count,
            kernel_count=0,
            reason="unknown",
            upper_bound=True,
            killer=OOMD,
            unit=rise.unit,
        )


def recorded_units(kills: Iterable[StoredEvent]) -> Collection[tuple[str | None, str]]:
    """Return the units that were killed in, each with the name of the killer."""
    recorded: set[tuple[str | None, str]] = set()
    for kill in kills:
        if isinstance(kill, OomKill | UserspaceKill) and kill.memcg:
            name = kill.killer.name if isinstance(kill, UserspaceKill) else KERNEL
            units = find_units(kill.memcg.path)
            recorded |= {(units.unit, name), (units.user_unit, name)}
    return recorded


def start_unit_kill_watch(
    store: Store,
    wake: Callable[[], None],
    stopped: threading.Event,
    interval_s: float = INTERVAL_S,
) -> None:
    """Compare now and then, in a thread of its own, until ``stopped``.

    It waits first: nothing can have risen yet. ``wake`` is called after an event.
    """

    def watch() -> None:
        watcher = UnitKillWatch(store)
        while not stopped.wait(interval_s):
            try:
                missed = watcher.compare() if SYSTEMD_OOMD in installed_daemons() else []
            except Exception:  # noqa: BLE001  this is a check alone
                if not stopped.is_set():
                    _LOG.exception("Comparison with systemd's counts of kills failed")
                continue
            if missed is None:
                return
            if missed:
                wake()

    threading.Thread(target=watch, name="unit-kills", daemon=True).start()
