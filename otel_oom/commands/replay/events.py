"""The lines of one file into events: each host's by themselves, each boot's by themselves."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.replay.boots import BEGINS, Boot, PendingEvent
from otel_oom.commands.replay.decompress import UnreadableError
from otel_oom.commands.replay.formats import detect
from otel_oom.commands.replay.formats.log_line import LoggedLine
from otel_oom.commands.replay.prefilter import RawLine
from otel_oom.commands.replay.timestamps import FILE, TimestampResolver
from otel_oom.linux.kernel_log.report import LoggedKill
from otel_oom.model.events import NoVictim, OomKill, Panic
from otel_oom.model.types import LogProvenance

Event = OomKill | NoVictim | Panic
"""What a log of the past can tell."""

_MOST_HOSTS: Final = 256
_MOST_WAITING: Final = 1 << 16
"""So many events may wait for the end of their file, which tells when they were."""
_NAMES: Final = re.compile(r"\(.*\)", re.DOTALL)
"""Each writer of logs escapes a hostile name in its own way; all else of a line is plain."""


class EventExtractor:
    """Finds the events of one file."""

    def __init__(self, file: Path | None, ended_unix_ns: int) -> None:
        """Of ``file``, if it has a name, which was last written at that time in Unix time."""
        self._file = str(file) if file else None
        self._timeline = TimestampResolver(ended_unix_ns)
        self._boots: dict[str | None, Boot] = {}
        self._boot_id = ""
        self._bare = True
        self._waiting: list[PendingEvent] = []
        self._held = False

    def of(self, raws: Iterable[RawLine]) -> Iterator[Event]:
        """The events, in their order; those whose time only the file's end tells come then.

        If the file can be read no further, what came before is told first.

        Raises:
            UnreadableError: it can't.
        """
        try:
            for raw in raws:
                self._take(raw)
                if self._waiting and (not self._held or len(self._waiting) > _MOST_WAITING):
                    yield from self._settled()
        except UnreadableError:
            self._end_all()
            yield from self._settled()
            raise
        self._end_all()
        yield from self._settled()

    def _settled(self) -> Iterator[Event]:
        waiting, self._waiting, self._held = self._waiting, [], False
        for told in waiting:
            event = self._event(told)
            if event is not None:
                yield event

    def _take(self, raw: RawLine) -> None:
        boot_id = detect.boot(raw.text)
        if boot_id is not None:
            self._end_all()
            self._boot_id = boot_id
            return
        line = detect.parse(raw.text)
        if line is not None:
            self._bare = False
        elif self._bare and raw.near:
            line = detect.bare(raw.text)
        if line is None:
            return
        if self._boot_id and not line.boot_id:
            line = dataclasses.replace(line, boot_id=self._boot_id)
        if line.when is None and line.text.startswith(BEGINS):
            self._timeline.new_boot()
        boot = self._boot_of(line)
        moment = self._timeline.note(line)
        if raw.near:
            self._hold(boot.feed(line, moment))
        else:
            boot.pass_by(line)

    def _boot_of(self, line: LoggedLine) -> Boot:
        """What is known of the boot that printed a line; another one than before begins anew."""
        boot = self._boots.get(line.host)
        if boot is None or boot.is_over(line):
            if boot is not None:
                self._hold(boot.end())
            elif len(self._boots) >= _MOST_HOSTS:
                self._hold(self._boots.pop(next(iter(self._boots))).end())
            boot = self._boots[line.host] = Boot(line)
        return boot

    def _end_all(self) -> None:
        for boot in self._boots.values():
            self._hold(boot.end())
        self._boots.clear()

    def _hold(self, told: Iterable[PendingEvent]) -> None:
        for one in told:
            self._waiting.append(one)
            self._held = self._held or not one.moment.is_known

    def _event(self, one: PendingEvent) -> Event | None:
        unix_ns, time_source = self._timeline.unix_ns(one.moment)
        line, events = one.line, one.events
        found = LogProvenance(
            line=_NAMES.sub("()", line.text).strip(),
            since_boot_ns=line.since_boot_ns,
            host=line.host,
            host_id=line.host_id,
            time_source=time_source,
            file=self._file,
        )
        if isinstance(one.event, Panic):
            return replace(
                one.event,
                boot_id=line.boot_id,
                boottime_ns=line.since_boot_ns or 0,
                time_unix_ns=unix_ns,
                time_source="record" if time_source == FILE else "log",
                provenance=found,
            )
        # A log without times since the boot has others that are as far apart.
        since_boot_ns = unix_ns if line.since_boot_ns is None else line.since_boot_ns
        offset_ns = unix_ns - since_boot_ns
        event: OomKill | NoVictim | None
        if isinstance(one.event, LoggedKill):
            event = events.build_kill(one.event, since_boot_ns, offset_ns, found)
        else:
            event = events.build_no_victim(one.event, since_boot_ns, offset_ns, found)
        return event and replace(event, boottime_ns=line.since_boot_ns or 0)
