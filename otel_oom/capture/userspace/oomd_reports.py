"""Join the messages and the D-Bus signal by which systemd-oomd reports one kill.

The signal ``org.freedesktop.oom1.Manager.Killed`` has the cgroup and the reason, and follows the
kill (``oomd_cgroup_kill()`` of systemd's ``src/oom/oomd-util.c``; some releases emit another text
instead of the path). The journal has more details. For a rule it names the cgroup only as the last
of the candidates. So the report of a rule waits a moment for the signal, and a signal for the
journal.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.capture.userspace.daemons import SYSTEMD_OOMD
from otel_oom.capture.userspace.messages import ParsedKill
from otel_oom.capture.userspace.rules import (
    RuleKill,
    parse_candidate,
    parse_rule,
    reports_failure,
)
from otel_oom.linux import clock
from otel_oom.linux.systemd.bus_signal import BusSignal
from otel_oom.linux.systemd.journal_entry import JournalEntry
from otel_oom.model.types import UserspaceOomDaemon
from otel_oom.model.units import NS_PER_US

BUS_NAME: Final = "org.freedesktop.oom1"
BUS_INTERFACE: Final = "org.freedesktop.oom1.Manager"
BUS_MEMBER: Final = "Killed"

HOLD_S: Final = 2.0
"""How long the report of a rule waits for its signal, which follows at once."""
SIGNAL_HOLD_S: Final = 30.0
"""How long a signal waits for the journal, which is late on a host without free memory."""
_SAME_KILL_S: Final = 60.0
_MAX_REPORTS: Final = 64
_SIGNAL_PATH: Final = re.compile(r"/[^\0\n]{0,4095}")
_RULE_REASON: Final = "rule "
_REASONS: Final = {"memory-pressure": "memory_pressure", "memory-used": "memory_used"}


class Report(Struct, frozen=True):
    """A kill and the journal's entry that it comes from; a signal has none in the journal.

    ``selected``: the cgroup is the last candidate of a list, which can end without a kill.
    ``confirmed``: the daemon's own report follows or announces a kill that it does not give up.
    """

    parsed: ParsedKill
    entry: JournalEntry
    from_bus: bool = False
    confirmed: bool = True
    selected: bool = False


class _Held(Struct):
    """The kill of a rule that waits for its signal."""

    kill: RuleKill
    entry: JournalEntry
    due: float
    selected: bool = False


class OomdReports:
    """The reports of systemd-oomd that wait for each other."""

    def __init__(self, boot_id: str) -> None:
        """Start without reports; signals are of this boot."""
        self._boot_id = boot_id
        self._held: _Held | None = None
        self._signals: deque[tuple[Report, float]] = deque(maxlen=_MAX_REPORTS)
        self._reported: deque[tuple[str, float]] = deque(maxlen=_MAX_REPORTS)

    @property
    def waits(self) -> bool:
        """True while a report waits for another one."""
        return self._held is not None or bool(self._signals)

    def add_entry(self, entry: JournalEntry) -> Iterator[Report]:
        """Take a message of the daemon; return the kill of a rule that it completes."""
        held, rule = self._held, parse_rule(entry.message)
        if held and reports_failure(entry.message):
            self._held = None
        elif held and (path := parse_candidate(entry.message)) and held.kill.path != path:
            if held.kill.path is None or held.selected:
                held.kill, held.selected = replace(held.kill, path=path), True
        elif rule:
            yield from self.flush()
        if rule:
            self._held = _Held(rule, entry, time.monotonic() + HOLD_S)
            for report, due in list(self._signals):
                if report.parsed.killer.rule == rule.rule:
                    self._signals.remove((report, due))
                    yield from self._complete(report.parsed.path or rule.watched)
                    break

    def note_reported(self, path: str | None) -> None:
        """Note that the journal reported the kill of a cgroup, whose signal adds nothing."""
        if path is None:
            return
        self._reported.append((path, time.monotonic()))
        for report, due in list(self._signals):
            if report.parsed.path == path:
                self._signals.remove((report, due))
                return

    def add_signal(self, signal: BusSignal) -> Iterator[Report]:
        """Take a signal; return the kill of a rule that it completes."""
        path, reason = (*signal.arguments, "", "")[:2]
        if not _SIGNAL_PATH.fullmatch(path):
            return
        rule = reason.removeprefix(_RULE_REASON) if reason.startswith(_RULE_REASON) else None
        if self._held and rule == self._held.kill.rule:
            yield from self._complete(path)
            return
        now = time.monotonic()
        for reported in self._reported:
            if reported[0] == path and now - reported[1] < _SAME_KILL_S:
                self._reported.remove(reported)
                return
        killer = UserspaceOomDaemon(
            "systemd-oomd", signal="SIGKILL", reason=_REASONS.get(reason), rule=rule
        )
        message = f"{BUS_INTERFACE}.{BUS_MEMBER}: {path}: {reason[:512]}"
        parsed = ParsedKill(killer, original=message, path=path)
        self._signals.append(
            (Report(parsed, self._entry(message), from_bus=True), now + SIGNAL_HOLD_S)
        )

    def take_due(self) -> Iterator[Report]:
        """Return the reports that have waited long enough."""
        now = time.monotonic()
        if self._held and self._held.due <= now:
            yield from self.flush()
        while self._signals and self._signals[0][1] <= now:
            yield self._signals.popleft()[0]

    def flush(self) -> Iterator[Report]:
        """Return the kill of a rule without its signal, if its cgroup is known."""
        held, self._held = self._held, None
        if held is None or held.kill.path is None:
            return
        if not held.selected:
            self.note_reported(held.kill.path)
        parsed = _parsed(held.kill, held.kill.path)
        yield Report(parsed, held.entry, confirmed=False, selected=held.selected)

    def _complete(self, path: str) -> Iterator[Report]:
        held, self._held = self._held, None
        if held:
            yield Report(_parsed(held.kill, path), held.entry)

    def _entry(self, message: str) -> JournalEntry:
        """Return an entry that no journal has, at this time."""
        return JournalEntry(
            cursor="",
            boot_id=self._boot_id,
            monotonic_us=time.monotonic_ns() // NS_PER_US,
            unix_ns=clock.boottime_ns() + clock.boot_to_unix_offset_ns(),
            unit=SYSTEMD_OOMD,
            pid=None,
            # Only the daemon owns the name, whose owner the bus compares.
            executable="systemd-oomd",
            message=message,
        )


def _parsed(kill: RuleKill, path: str) -> ParsedKill:
    killer = UserspaceOomDaemon(
        "systemd-oomd", signal="SIGKILL", memcg=kill.watched, rule=kill.rule
    )
    return ParsedKill(killer, original=kill.original, path=path)
