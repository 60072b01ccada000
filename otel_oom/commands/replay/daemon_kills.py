"""Kills by userspace OOM daemons in the lines of one file, for each host separately.

A message is all that is known of such a kill, as for one that was logged before the agent started:
no death confirms it.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.capture.userspace.android import (
    ANDROID,
    DRIVER_PREFIX,
    AndroidParser,
    strip_thread,
)
from otel_oom.capture.userspace.daemon_reports import DaemonReports
from otel_oom.capture.userspace.daemons import EARLYOOM, SYSTEMD_OOMD
from otel_oom.capture.userspace.messages import (
    ParsedKill,
    parse_cut_message,
    parse_kernel_kill,
    parse_message,
    revokes_kill,
)
from otel_oom.capture.userspace.oomd_reports import Report
from otel_oom.capture.userspace.talos import TALOS, TALOS_PREFIX, TalosParser
from otel_oom.commands.replay.boots import SOURCE
from otel_oom.commands.replay.formats.journal_fields import FORMAT as JOURNAL_FORMAT
from otel_oom.commands.replay.formats.log_line import TEXT, LoggedLine
from otel_oom.commands.replay.timestamps import LinePosition
from otel_oom.linux.systemd.journal_entry import JournalEntry
from otel_oom.model.events import UserspaceKill
from otel_oom.model.text import escape_controls
from otel_oom.model.types import Capture, LogProvenance, Memcg, UserspaceOomDaemon

_MAX_HOSTS: Final = 64
_KILL_BYTES: Final = 1 << 12
_MAX_REQUESTS: Final = 1 << 10
_DRIVER_BEGINNINGS: Final = (DRIVER_PREFIX, "Killing '", "send sigkill to ")
_LONE_BEGINNINGS: Final = ("sending SIG", "Killed /", "Marked /")
"""Of messages that need no other text beside them, as ``journalctl -o cat`` prints them."""
_SIZE: Final = "to free "


class DaemonKill(Struct, frozen=True):
    """A kill as a daemon's message reports it; ``confirmed`` as in :class:`Report`."""

    parsed: ParsedKill
    line: LoggedLine
    position: LinePosition
    confirmed: bool = True

    @property
    def size_bytes(self) -> int:
        """About the memory that it takes."""
        return _KILL_BYTES + sys.getsizeof(self.line.text) + sys.getsizeof(self.parsed.original)


class KernelKillRequest(Struct, frozen=True):
    """A message of a daemon that had the kernel choose a victim."""

    killer: UserspaceOomDaemon
    line: LoggedLine
    position: LinePosition


class _DatedEntry(JournalEntry, frozen=True):
    line: LoggedLine
    position: LinePosition


class _HostDaemons:
    """The messages of one host's daemons that later ones complete."""

    def __init__(self) -> None:
        self._reports = DaemonReports("")
        self._android = AndroidParser()
        self._talos = TalosParser()
        self._earlyoom: DaemonKill | None = None
        """It waits for the next message, which may revoke it."""
        self._held: tuple[LoggedLine, LinePosition] | None = None
        self._previous = ""

    def feed(
        self, unit: str, line: LoggedLine, position: LinePosition
    ) -> Iterator[DaemonKill | KernelKillRequest]:
        if line.format != JOURNAL_FORMAT and (cut := parse_cut_message(unit, line.text)):
            complete: DaemonKill | None = DaemonKill(cut, line, position)
            if unit == EARLYOOM:
                complete, self._earlyoom = self._earlyoom, complete
            if complete:
                yield complete
        elif unit == ANDROID:
            yield from self._feed_android(line, position)
        elif unit == TALOS:
            if parsed := self._talos.feed(line.text):
                yield DaemonKill(parsed, line, position)
        elif unit == EARLYOOM:
            yield from self._feed_earlyoom(line, position)
        else:
            yield from self._kills(self._reports.add_entry(_entry(unit, line, position)))

    def awaits_size(self, line: LoggedLine) -> bool:
        return self._android.waits and line.text.lstrip().startswith(_SIZE)

    def end(self) -> Iterator[DaemonKill]:
        yield from self._kills(self._reports.oomd.flush())
        yield from self._kills_of_android(self._android.flush())
        if self._earlyoom:
            yield self._earlyoom
            self._earlyoom = None

    def _feed_earlyoom(
        self, line: LoggedLine, position: LinePosition
    ) -> Iterator[DaemonKill | KernelKillRequest]:
        held, self._earlyoom = self._earlyoom, None
        if held and not revokes_kill(line.text):
            yield held
        if killer := parse_kernel_kill(line.text, self._previous):
            yield KernelKillRequest(killer, line, position)
        self._previous = line.text
        kills = self._kills(self._reports.add_entry(_entry(EARLYOOM, line, position)))
        self._earlyoom = next(kills, None)

    def _feed_android(self, line: LoggedLine, position: LinePosition) -> Iterator[DaemonKill]:
        before = self._held
        waited = self._android.waits
        for parsed in self._android.feed(line.text):
            line_of_kill, position_of_kill = before if waited and before else (line, position)
            waited = False
            yield DaemonKill(parsed, line_of_kill, position_of_kill)
        self._held = (line, position) if self._android.waits else None

    def _kills_of_android(self, kills: Iterable[ParsedKill]) -> Iterator[DaemonKill]:
        for parsed in kills:
            if self._held:
                yield DaemonKill(parsed, *self._held)

    @staticmethod
    def _kills(reports: Iterable[Report]) -> Iterator[DaemonKill]:
        for report in reports:
            entry = report.entry
            if isinstance(entry, _DatedEntry):
                confirmed = report.confirmed
                yield DaemonKill(report.parsed, entry.line, entry.position, confirmed)


class DaemonLog:
    """The daemons of all hosts that a file has lines of."""

    def __init__(self) -> None:
        self._hosts: OrderedDict[str | None, _HostDaemons] = OrderedDict()
        self.requests: deque[KernelKillRequest] = deque(maxlen=_MAX_REQUESTS)
        """The last messages of daemons that had the kernel choose."""

    def feed(self, line: LoggedLine, position: LinePosition) -> Iterator[DaemonKill]:
        """Yield the kills that a line completes, of a daemon or of a driver of the kernel."""
        unit = line.unit or _find_unit(line) or self._awaited_unit(line)
        if unit is None:
            return
        if line.host not in self._hosts:
            self._hosts[line.host] = _HostDaemons()
            if len(self._hosts) > _MAX_HOSTS:
                yield from self._hosts.popitem(last=False)[1].end()
        self._hosts.move_to_end(line.host)
        for kill in self._hosts[line.host].feed(unit, line, position):
            if isinstance(kill, KernelKillRequest):
                self.requests.append(kill)
            else:
                yield kill

    def end(self) -> Iterator[DaemonKill]:
        """Yield the kills that the end of the file completes."""
        while self._hosts:
            yield from self._hosts.popitem()[1].end()

    def _awaited_unit(self, line: LoggedLine) -> str | None:
        daemons = self._hosts.get(line.host)
        return ANDROID if daemons and daemons.awaits_size(line) else None


def _find_unit(line: LoggedLine) -> str | None:
    """Return the unit of a message that is in the kernel's log, or stands alone."""
    text = line.text
    if text.startswith(TALOS_PREFIX):
        return TALOS
    if strip_thread(text).startswith(_DRIVER_BEGINNINGS):
        return ANDROID
    if line.format != TEXT or not text.startswith(_LONE_BEGINNINGS):
        return None
    units = (unit for unit in (SYSTEMD_OOMD, EARLYOOM) if parse_message(unit, text))
    return next(units, None)


def build_userspace_kill(
    kill: DaemonKill, unix_ns: int, provenance: LogProvenance, sequence: int
) -> UserspaceKill:
    """Return the event of a daemon's message at a time."""
    parsed, line = kill.parsed, kill.line
    path = parsed.path
    victim = parsed.victim and replace(parsed.victim, command=None)
    return UserspaceKill(
        boot_id=line.boot_id,
        boottime_ns=line.since_boot_ns or 0,
        time_unix_ns=unix_ns,
        trigger=None,
        capture=Capture(SOURCE, line.format, None, sequence),
        killer=parsed.killer,
        victim=victim,
        memcg=Memcg(None, path) if path else None,
        resident=parsed.resident,
        usage=parsed.usage,
        completed=parsed.completed and kill.confirmed,
        original=escape_controls(parsed.original),
        provenance=replace(provenance, line=_describe(parsed)),
    )


def _describe(parsed: ParsedKill) -> str:
    """Return a line without names, which each logging program escapes differently."""
    if parsed.victim is None:
        return f"{parsed.killer.name}: cgroup {parsed.path}"
    size = f", {parsed.resident}" if parsed.resident is not None else ""
    return f"{parsed.killer.name}: {parsed.killer.signal} to process {parsed.victim.tgid}{size}"


def _entry(unit: str, line: LoggedLine, position: LinePosition) -> _DatedEntry:
    return _DatedEntry(
        cursor="",
        boot_id=line.boot_id,
        monotonic_us=0,
        unix_ns=0,
        unit=unit,
        pid=None,
        executable=None,
        message=line.text,
        line=line,
        position=position,
    )
