"""The lines of one file into events: each host's by themselves, each boot's by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from otel_oom.capture.kernel_log import (
    KernelLogParser,
    LogEvent,
    LoggedKill,
    LoggedNoVictim,
)
from otel_oom.capture.kmsg_events import LogEvents
from otel_oom.capture.log_forms import Line
from otel_oom.capture.processes import Processes
from otel_oom.event import NoVictim, OomKill
from otel_oom.facts import Found
from otel_oom.replay import lines
from otel_oom.replay.blocks import Raw
from otel_oom.replay.logged import LoggedLine, Stamp
from otel_oom.replay.timeline import Moment, Timeline
from otel_oom.replay.unpack import UnreadableError

SOURCE: Final = "replay"

_MOST_HOSTS: Final = 256
_MOST_WAITING: Final = 1 << 16
"""So many kills may wait for the end of their file, which tells when they were."""
_MOST_RECENT: Final = 1 << 12
_NOWHERE: Final = Path("/nonexistent")
_BOOTED: Final = "Linux version "
_BACK_NS: Final = 1_000_000_000
_NS_PER_S: Final = 1_000_000_000
_SOME_YEAR: Final = 2000
"""A leap year: it only tells how far apart two dates are."""

_PIECES: Final = (
    *(",cpuset=", ",mems_allowed=", ",global_oom,", ",oom_memcg=", ",task_memcg=", ",task="),
    " are going to be killed due to",
)
"""What a line of the kernel's begins with that was printed in pieces, for it was long; only
/dev/kmsg tells that it goes on with the one before."""
_NAMES: Final = re.compile(r"\(.*\)", re.DOTALL)
"""Each writer of logs escapes a hostile name in its own way; all else of a line is plain."""


class _FoundEvents(LogEvents):
    """Makes events of what was found, as those of one boot are made of what was captured."""

    found: Found

    def _shared(self, *about: Any) -> dict[str, Any]:  # noqa: ANN401  those of LogEvents
        return {**super()._shared(*about), "found": self.found}


@dataclass(slots=True)
class _Boot:
    """What a host's log is in the middle of."""

    boot_id: str
    events: _FoundEvents
    parser: KernelLogParser = field(default_factory=KernelLogParser)
    recent: dict[int, tuple[LoggedLine, Moment]] = field(default_factory=dict)
    """The last lines by their numbers: a kill may be told some lines after its own."""
    since_boot_ns: int = 0
    rough_ns: int = 0
    clock_ns: int = 0

    def time_ns(self, line: LoggedLine) -> int:
        """A time by which two lines can be told to be of one decision.

        Of times in whole seconds the second may just have turned.
        """
        if line.since_boot_ns is not None:
            return line.since_boot_ns
        when, in_seconds = line.when, False
        if isinstance(when, Stamp):
            in_seconds = not when.ns
            try:
                when = when.unix_ns(_SOME_YEAR)
            except (ValueError, OverflowError):
                when = None
        if when is None:
            return self.clock_ns
        passed = when - self.rough_ns
        self.rough_ns = when
        self.clock_ns += max(0, passed - _NS_PER_S) if in_seconds else passed
        return self.clock_ns


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What was logged, and all that is needed to tell it."""

    told: LoggedKill | LoggedNoVictim
    line: LoggedLine
    moment: Moment
    events: _FoundEvents


class Kills:
    """Finds the events of one file."""

    def __init__(self, file: Path | None, ended_unix_ns: int) -> None:
        """Of ``file``, if it has a name, which was last written at that time in Unix time."""
        self._file = str(file) if file else None
        self._timeline = Timeline(ended_unix_ns)
        self._boots: dict[str | None, _Boot] = {}
        self._boot_id = ""
        self._bare = True
        self._sequence = 0
        self._waiting: list[_Waiting] = []
        self._held = False

    def of(self, raws: Iterable[Raw]) -> Iterator[OomKill | NoVictim]:
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
            self._end(*self._boots.values())
            yield from self._settled()
            raise
        self._end(*self._boots.values())
        yield from self._settled()

    def _settled(self) -> Iterator[OomKill | NoVictim]:
        waiting, self._waiting, self._held = self._waiting, [], False
        for one in waiting:
            event = self._event(one)
            if event is not None:
                yield event

    def _take(self, raw: Raw) -> None:
        boot_id = lines.boot(raw.text)
        if boot_id is not None:
            self._boot_id = boot_id
            self._end(*self._boots.values())
            self._boots.clear()
            return
        line = lines.parse(raw.text)
        if line is not None:
            self._bare = False
        elif self._bare and raw.near:
            line = lines.bare(raw.text)
        if line is None:
            return
        if self._boot_id and not line.boot_id:
            line = replace(line, boot_id=self._boot_id)
        boot = self._boot_of(line)
        moment = self._timeline.note(line)
        if raw.near:
            self._feed(boot, line, moment)

    def _boot_of(self, line: LoggedLine) -> _Boot:
        """What is known of the boot that printed a line; another one than before begins anew."""
        boot = self._boots.get(line.host)
        begins = line.text.startswith(_BOOTED)
        if begins and line.when is None:
            self._timeline.new_boot()
        if boot is None or begins or _is_over(boot, line):
            if boot is not None:
                self._end(boot)
            elif len(self._boots) >= _MOST_HOSTS:
                self._end(self._boots.pop(next(iter(self._boots))))
            events = _FoundEvents(line.boot_id, SOURCE, line.form, Processes(_NOWHERE))
            boot = self._boots[line.host] = _Boot(line.boot_id, events)
        if line.since_boot_ns is not None:
            boot.since_boot_ns = line.since_boot_ns
        return boot

    def _feed(self, boot: _Boot, line: LoggedLine, moment: Moment) -> None:
        self._sequence += 1
        text = Line(
            line.text,
            boot.time_ns(line),
            self._sequence,
            line.caller,
            continues=line.text.startswith(_PIECES),
            exact=line.form != lines.BARE,
        )
        boot.recent[self._sequence] = line, moment
        if len(boot.recent) > _MOST_RECENT:
            del boot.recent[next(iter(boot.recent))]
        self._tell(boot, boot.parser.feed(text))

    def _tell(self, boot: _Boot, *told: LogEvent | None) -> None:
        for event in told:
            if isinstance(event, LoggedKill | LoggedNoVictim):
                line, moment = boot.recent[event.line.sequence]
                self._waiting.append(_Waiting(event, line, moment, boot.events))
                self._held = self._held or not moment.is_known

    def _end(self, *boots: _Boot) -> None:
        """Tell what these boots' parsers still wait with: there are no more lines of theirs."""
        for boot in boots:
            self._tell(boot, *boot.parser.end())

    def _event(self, one: _Waiting) -> OomKill | NoVictim | None:
        unix_ns, time_source = self._timeline.unix_ns(one.moment)
        line, events = one.line, one.events
        events.found = Found(
            line=_NAMES.sub("()", line.text).strip(),
            since_boot_ns=line.since_boot_ns,
            host=line.host,
            host_id=line.host_id,
            time_source=time_source,
            file=self._file,
        )
        # A log without times since the boot has others that are as far apart.
        since_boot_ns = unix_ns if line.since_boot_ns is None else line.since_boot_ns
        offset_ns = unix_ns - since_boot_ns
        event: OomKill | NoVictim | None
        if isinstance(one.told, LoggedKill):
            event = events.kill(one.told, since_boot_ns, offset_ns)
        else:
            event = events.no_victim(one.told, since_boot_ns, offset_ns)
        return event and replace(event, boottime_ns=line.since_boot_ns or 0)


def _is_over(boot: _Boot, line: LoggedLine) -> bool:
    """Whether a line is of a later boot than those before it."""
    if line.boot_id != boot.boot_id:
        return True
    return line.since_boot_ns is not None and line.since_boot_ns < boot.since_boot_ns - _BACK_NS
