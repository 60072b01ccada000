"""Kills by userspace OOM daemons as a source of events, read from systemd's journal."""

from __future__ import annotations

import logging
import math
import select
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Self

from msgspec.structs import replace

from otel_oom.capture.source import Handler
from otel_oom.capture.userspace.daemon_reports import DaemonReports
from otel_oom.capture.userspace.daemons import (
    SYSTEMD_OOMD,
    UNITS,
    format_names,
    installed_daemons,
)
from otel_oom.capture.userspace.hidden_sources import bus_advice, log_hidden_sources
from otel_oom.capture.userspace.kill_builder import HOOK, SOURCE, KillBuilder
from otel_oom.capture.userspace.messages import build_requester
from otel_oom.capture.userspace.oomd_reports import (
    BUS_INTERFACE,
    BUS_MEMBER,
    BUS_NAME,
    HOLD_S,
    Report,
)
from otel_oom.capture.userspace.prekill import HOOK_DIR
from otel_oom.linux.systemd.bus_listener import SYSTEM_BUS, BusListener
from otel_oom.linux.systemd.journal_cursor import JournalCursor
from otel_oom.linux.systemd.journal_follower import JournalFollower
from otel_oom.linux.timer import IntervalTimer
from otel_oom.model.events import OomKill, UserspaceKill, VictimExit
from otel_oom.model.loss import LostEvents

_LOG = logging.getLogger(__name__)

_CHECK_INTERVAL_S: Final = 60.0
"""Interval of the checks for a daemon on a host without any."""


class JournalSource:
    """Kills that systemd's journal has, and the exits that verify them.

    See :class:`otel_oom.capture.source.Source`.

    Entering never fails: a host without such a daemon, or without a journal, has no such kills.
    """

    name = SOURCE
    hook = HOOK
    decision_source = ""
    pinned = True
    """Messages stay in the journal while no agent runs."""

    def __init__(  # noqa: PLR0913  each is named at the call
        self,
        state_dir: Path,
        *,
        history: bool,
        want_command: bool = False,
        want_signals: bool = False,
        proc: Path = Path("/proc"),
        find_daemons: Callable[[], Sequence[str]] = installed_daemons,
        program: str = "journalctl",
        bus: Path = SYSTEM_BUS,
        hook_dir: Path = HOOK_DIR,
    ) -> None:
        """Prepare; the position in the journal is saved in ``state_dir``.

        ``history`` is to read all of this boot the first time, ``want_command`` to keep the command
        line of a victim, ``want_signals`` to record by BPF which processes the daemons kill.
        """
        self._state_dir = state_dir
        self._history = history
        self._want_command = want_command
        self._want_signals = want_signals
        self._proc = proc
        self._find_daemons = find_daemons
        self._program = program
        self._bus_path = bus
        self._hook_dir = hook_dir

    def __enter__(self) -> Self:
        """Start to read the journal if there is a daemon."""
        self._epoll = select.epoll()
        self._builder = KillBuilder(
            self._epoll, self._proc, self._hook_dir, want_command=self._want_command
        )
        self._pending: deque[tuple[UserspaceKill | VictimExit, str | None]] = deque()
        self._reports = DaemonReports(self._builder.boot_id)
        self._bus = BusListener(self._epoll, BUS_NAME, BUS_INTERFACE, BUS_MEMBER)
        self._hold_timer = IntervalTimer(HOLD_S / 2)
        self._timer_registered = False
        self._follower: JournalFollower | None = None
        self._next_check = -math.inf
        log_hidden_sources()
        self._follow_if_needed()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        if self._follower:
            self._follower.close()
        self._bus.close()
        self._hold_timer.close()
        self._builder.close()
        self._epoll.close()

    def fileno(self) -> int:
        """Return an epoll descriptor that is readable when there are messages or exits."""
        return self._epoll.fileno()

    def drain(self, handler: Handler) -> int:
        """Pass all pending kills and exits to ``handler``; see :meth:`Source.drain`.

        The position in the journal is saved when ``handler`` has returned.

        Raises:
            Exception: whatever ``handler`` raised.
        """
        self._follow_if_needed()
        count = self._handle_pending(handler)
        if self._follower is None:
            return count
        for entry in self._follower.read_entries():
            self._add_reports(self._reports.add_entry(entry))
            count += self._handle_pending(handler)
        for signal in self._bus.read_signals():
            self._add_reports(self._reports.oomd.add_signal(signal))
        self._add_reports(self._reports.oomd.take_due())
        self._watch_time()
        self._pending.extend((exit_, None) for exit_ in self._builder.poll_exits())
        return count + self._handle_pending(handler)

    def add_requester(self, kill: OomKill) -> OomKill:
        """Return a kill of the kernel with the daemon that requested it by sysrq, if one did."""
        unit = self._builder.signals.find_requester(kill)
        return replace(kill, killer=build_requester(unit)) if unit else kill

    def lost_events(self) -> LostEvents:
        """Return no loss: the journal keeps what was not read."""
        return LostEvents()

    def _follow_if_needed(self) -> None:
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_INTERVAL_S
        units = self._find_daemons()
        if SYSTEMD_OOMD in units:
            if not self._bus.connected:
                self._bus.connect(self._bus_path)
            self._builder.hook.open()
        if units and self._want_signals:
            self._builder.signals.open()
        if not units or self._follower is not None:
            return
        self._follower = JournalFollower(
            UNITS,
            JournalCursor(self._state_dir),
            self._epoll,
            history=self._history,
            program=self._program,
        )
        _LOG.info(
            "Userspace OOM daemons: reading kills by %s from the journal", format_names(units)
        )
        if SYSTEMD_OOMD in units and not self._bus.connected:
            _LOG.info("Userspace OOM daemons: no system bus: %s", bus_advice())

    def _handle_pending(self, handler: Handler) -> int:
        count = 0
        while self._pending:
            event, cursor = self._pending[0]
            handler(event)
            self._pending.popleft()
            if self._follower and cursor is not None:
                self._follower.commit(cursor)
            count += 1
        return count

    def _watch_time(self) -> None:
        """Let the descriptor become readable again while reports wait."""
        self._hold_timer.clear()
        if self._reports.oomd.waits != self._timer_registered:
            self._timer_registered = self._reports.oomd.waits
            change = self._epoll.register if self._timer_registered else self._epoll.unregister
            change(self._hold_timer)

    def _add_reports(self, reports: Iterable[Report]) -> None:
        for report in reports:
            kill = self._builder.build_kill(report)
            if kill is not None:
                self._pending.append((kill, report.entry.cursor or None))
