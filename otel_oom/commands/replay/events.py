"""Extraction of events from the lines of one file, for each host and boot separately."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.replay.boots import FIRST_LINE, Boot, PendingEvent
from otel_oom.commands.replay.daemon_kills import (
    DaemonKill,
    DaemonLog,
    build_userspace_kill,
)
from otel_oom.commands.replay.decompress import UnreadableFileError
from otel_oom.commands.replay.formats import detect, journal_fields
from otel_oom.commands.replay.formats.log_line import TEXT, LoggedLine
from otel_oom.commands.replay.formats.shared_prefix import SharedPrefix
from otel_oom.commands.replay.hints import Hints
from otel_oom.commands.replay.prefilter import RawLine
from otel_oom.commands.replay.timestamps import FILE, ElapsedClock, TimestampResolver
from otel_oom.linux.kernel_log.piece_joiner import MAX_CHARS
from otel_oom.linux.kernel_log.report import LoggedKill
from otel_oom.model.events import NoVictim, OomKill, Panic, ReplayedEvent
from otel_oom.model.types import (
    JOURNAL,
    TEXT_FILE,
    UNVERIFIED,
    LogProvenance,
    UserspaceOomDaemon,
)
from otel_oom.model.units import NS_PER_S

Event = ReplayedEvent

_MAX_HOSTS: Final = 256
_MAX_FED_CHARS: Final = 1 << 24
"""Lines that the hosts' unfinished reports may be made of: 16 MiB, and some 100 MiB of memory."""
_MAX_LINE_CHARS: Final = 2 * MAX_CHARS
_MAX_PENDING_BYTES: Final = 1 << 26
"""Events that may wait for the end of their file to get their times."""
_REQUEST_NS: Final = 10 * NS_PER_S
"""Longest time between a daemon's request for a kill and the kernel's report of that kill."""
_NAMES: Final = re.compile(r"\(.*\)", re.DOTALL)
"""Each logging program escapes hostile names differently; the rest of a line is plain."""


class EventExtractor:
    """Extractor of the events of one file."""

    def __init__(
        self,
        path: Path | None,
        ended_unix_ns: int,
        *,
        is_named: bool = True,
        is_vouched: bool = True,
        hints: Hints | None = None,
    ) -> None:
        """Extract from the log ``path``; see :class:`.log_files.LogFile`."""
        self._file = str(path) if path else None
        self._is_named = is_named
        self._is_vouched = is_vouched
        self._hints = hints or Hints()
        self._timestamps = TimestampResolver(ended_unix_ns, self._hints)
        self._elapsed = ElapsedClock()
        self._shared_prefix = SharedPrefix()
        self._boots: dict[str | None, Boot] = {}
        self._boot_id = ""
        self._is_bare = True
        self._fed_chars = 0
        self._daemons = DaemonLog()
        self._pending: list[PendingEvent | DaemonKill] = []
        self._pending_bytes = 0
        self._await_end = False
        self._daemon_kills = 0

    def extract(self, lines: Iterable[RawLine]) -> Iterator[Event]:
        """Yield the events in their order; if the end of the file dates them, they come then.

        Raises UnreadableFileError if the file can't be read on, after the events before.
        """
        try:
            for line in lines:
                self._add(line)
                is_full = self._pending_bytes > _MAX_PENDING_BYTES
                if self._pending and (is_full or not self._await_end):
                    yield from self._complete()
        except UnreadableFileError:
            self._end_all()
            yield from self._complete()
            raise
        self._end_all()
        yield from self._complete()

    def _complete(self) -> Iterator[Event]:
        pending, self._pending, self._await_end = self._pending, [], False
        self._pending_bytes = 0
        for pending_event in pending:
            event = self._event(pending_event)
            if event is not None:
                yield event

    def _add(self, raw: RawLine) -> None:
        boot_id = detect.parse_boot_marker(raw.text)
        if boot_id is not None:
            self._end_all()
            self._boot_id = boot_id
            return
        line = detect.parse_line(raw.text, allow_unverified=self._is_named)
        if line is not None:
            self._is_bare = False
            self._add_line(line, relevant=raw.relevant)
        elif self._is_bare and self._is_named and raw.relevant and detect.is_bare_text(raw.text):
            for bare_line in self._shared_prefix.parse(raw.text.rstrip(b"\r")):
                self._add_line(bare_line, relevant=True)

    def _add_line(self, line: LoggedLine, *, relevant: bool) -> None:
        line = self._elapsed.complete(line)
        if self._boot_id and not line.boot_id:
            line = replace(line, boot_id=self._boot_id)
        if line.when is None and line.text.startswith(FIRST_LINE):
            self._timestamps.start_boot()
        boot = self._boot_of(line) if line.unit is None else None
        position = self._timestamps.add(line)
        is_relevant = relevant and len(line.text) <= _MAX_LINE_CHARS
        if is_relevant:
            self._keep(self._daemons.feed(line, position))
        if boot is None:
            return
        if is_relevant:
            self._fed_chars += len(line.text)
            self._keep(boot.feed(line, position))
        else:
            boot.skip(line)
        while self._fed_chars > _MAX_FED_CHARS and len(self._boots) > 1:
            self._end_boot(next(iter(self._boots)))

    def _boot_of(self, line: LoggedLine) -> Boot:
        """Return the boot that printed a line, as the most recent of all.

        A new boot of the same host ends the last one.
        """
        boot = self._boots.get(line.host)
        if boot is not None and boot.ends_before(line):
            self._end_boot(line.host)
            boot = None
        if boot is None and len(self._boots) >= _MAX_HOSTS:
            self._end_boot(next(iter(self._boots)))
        if len(self._boots) > 1:
            self._boots.pop(line.host, None)
        boot = self._boots[line.host] = boot or Boot(line)
        return boot

    def _end_boot(self, host: str | None) -> None:
        boot = self._boots.pop(host)
        self._fed_chars -= boot.fed_chars
        self._keep(boot.end())

    def _end_all(self) -> None:
        for line in self._shared_prefix.finish():
            self._add_line(line, relevant=True)
        for host in list(self._boots):
            self._end_boot(host)
        self._keep(self._daemons.end())

    def _keep(self, events: Iterable[PendingEvent | DaemonKill]) -> None:
        for event in events:
            self._pending.append(event)
            self._pending_bytes += event.size_bytes
            # The daemon that requested it may log that later.
            is_by_sysrq = isinstance(event, PendingEvent) and event.is_by_sysrq
            self._await_end |= is_by_sysrq or not event.position.is_final

    def _event(self, pending: PendingEvent | DaemonKill) -> Event | None:
        unix_ns, time_source = self._timestamps.resolve(pending.position)
        line = pending.line
        provenance = LogProvenance(
            line=_NAMES.sub("()", line.text).strip(),
            since_boot_ns=line.since_boot_ns,
            host=line.host or self._hints.host,
            host_id=line.host_id,
            time_source=time_source,
            file=self._file,
            source=self._source_of(line),
        )
        if isinstance(pending, DaemonKill):
            self._daemon_kills += 1
            return build_userspace_kill(pending, unix_ns, provenance, self._daemon_kills)
        if isinstance(pending.event, Panic):
            return replace(
                pending.event,
                boot_id=line.boot_id,
                boottime_ns=line.since_boot_ns or 0,
                time_unix_ns=unix_ns,
                time_source="record" if time_source == FILE else "log",
                provenance=provenance,
            )
        # Without times since boot, those of the wall clock are as far apart.
        since_boot_ns = unix_ns if line.since_boot_ns is None else line.since_boot_ns
        offset_ns, builder = unix_ns - since_boot_ns, pending.builder
        event: OomKill | NoVictim | None
        if isinstance(pending.event, LoggedKill):
            event = builder.build_kill(pending.event, since_boot_ns, offset_ns, provenance)
            if pending.is_by_sysrq:
                event = replace(event, killer=self._take_request(line.host, unix_ns))
        else:
            event = builder.build_no_victim(pending.event, since_boot_ns, offset_ns, provenance)
        return event and _move_clock(event, (line.since_boot_ns or 0) - since_boot_ns)

    def _take_request(self, host: str | None, unix_ns: int) -> UserspaceOomDaemon | None:
        """Return the daemon that requested a kill of the kernel at about this time, once."""
        for request in self._daemons.requests:
            request_unix_ns, _ = self._timestamps.resolve(request.position)
            is_near = abs(request_unix_ns - unix_ns) <= _REQUEST_NS
            if is_near and request.line.host in {host, None}:
                self._daemons.requests.remove(request)
                return request.killer
        return None

    def _source_of(self, line: LoggedLine) -> str:
        if line.unverified or not self._is_vouched or line.format == TEXT:
            return UNVERIFIED
        return JOURNAL if line.format == journal_fields.FORMAT else TEXT_FILE


def _move_clock(event: OomKill | NoVictim, shift_ns: int) -> OomKill | NoVictim:
    """Return an event with its times since the boot moved; without such times, it is at 0."""
    tasks = event.tasks if isinstance(event, OomKill) else None
    if isinstance(event, OomKill) and tasks:
        event = replace(event, tasks=replace(tasks, boottime_ns=tasks.boottime_ns + shift_ns))
    return replace(event, boottime_ns=event.boottime_ns + shift_ns)
