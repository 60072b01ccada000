"""The results of one scenario on one kernel: its kills, the kernel's log and count, the events."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self

from msgspec import convert

from otel_oom.model.events import NoVictim, OomKill, ReaperStep, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import TaskList
from tests.testlib.kernel.oracle import KilledLine, message_text, parse_killed_lines
from tests.vmtest.scenario_kills import ScenarioKills
from tests.vmtest.source_recorder import SourceRecorder

SOURCES: Final = ("libbpf", "kmsg")
"""Both run in each guest; the second one knows only what the kernel prints."""

_SLACK_PAGES: Final = 256
"""More than a victim's threads, or a guest's CPUs, can count before it is visible."""

_HEADER = re.compile(
    r"oom-kill:constraint=CONSTRAINT_(?P<constraint>\w+),"
    r".*?,(?:global_oom|oom_memcg=(?P<limit_memcg>[^,]*)),task_memcg=(?P<memcg>[^,]*),task=.*,"
    r"pid=(?P<pid>\d+),uid="
)
_INVOKED = re.compile(
    r"invoked oom-killer: gfp_mask=(?P<mask>0x[0-9a-f]+)\((?P<flags>[^)]*)\), "
    r"order=(?P<order>-?\d+),"
)
_TRIGGER = re.compile(r"CPU: \d+ (?:UID: \d+ )?PID: (?P<trigger>\d+) ")
_ROW = re.compile(r"^\[ *(?P<pid>\d+)\] +\d+ +\d+ +[\d ]+ (?P<swapped>\d+) +-?\d+ ", re.MULTILINE)
_LIMIT = re.compile(r"memory: usage (?P<usage>\d+)kB, limit (?P<limit>\d+)kB, failcnt")


@dataclass(frozen=True)
class SourceEvents:
    """The events that one source has captured of a scenario."""

    source: str
    kills: list[OomKill]
    exits: list[VictimExit]
    no_victims: list[NoVictim]
    reaper_steps: list[ReaperStep]
    snapshots: list[Snapshot]
    """One for each kill, where the recorder completes kills."""
    scanned: list[TaskList | None]
    """The largest processes after each kill, where they were scanned."""

    @classmethod
    def of(cls, recorder: SourceRecorder) -> Self:
        """Sort the events of a recorder."""
        return cls(
            recorder.source.name,
            recorder.of_type(OomKill),
            recorder.of_type(VictimExit),
            recorder.of_type(NoVictim),
            recorder.of_type(ReaperStep),
            recorder.snapshots,
            recorder.scanned,
        )

    def without_kills_of(self, tids: Container[int | None]) -> Self:
        """Return the events as the store keeps them, without second kills by these threads.

        The exit that counts is the last one.
        """
        kept = [index for index, kill in enumerate(self.kills) if kill.victim.tid not in tids]
        if len(kept) == len(self.kills):
            return self
        return replace(
            self,
            kills=[self.kills[index] for index in kept],
            exits=list({exit_.tgid: exit_ for exit_ in self.exits}.values()),
            snapshots=[self.snapshots[index] for index in kept],
            scanned=[self.scanned[index] for index in kept],
        )


@dataclass(frozen=True)
class ScenarioResult:
    """The results of one scenario on one kernel."""

    made: ScenarioKills
    events: dict[str, SourceEvents]
    """By the name of the source."""
    records: list[str]
    """The records of /dev/kmsg."""
    recovered: list[OomKill]
    """The kills read back from the kernel log afterwards, with the marks that they have left."""
    counter_rise: int
    """The rise of oom_kill in /proc/vmstat."""
    seconds: float
    page_bytes: int
    """The size of the kernel's pages."""

    @property
    def slack_bytes(self) -> int:
        """The bytes that the kernel's counters can differ by."""
        return _SLACK_PAGES * self.page_bytes

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what a guest has written, without threads that were killed once more.

        A thread that is gone when its line is read is a process of its own for the log's reader.
        """
        whole = convert(value, cls)
        kmsg, libbpf = whole.events["kmsg"], whole.events["libbpf"]
        kills = [kill for kill in kmsg.kills if kill.victim.tid not in whole.killed_again]
        events = {
            "kmsg": replace(kmsg, kills=kills),
            "libbpf": libbpf.without_kills_of(whole.killed_again),
        }
        return replace(whole, events=whole.events | events)

    def with_recovered(self, kills: Iterable[OomKill]) -> Self:
        """Return the results with those of the ``kills`` whose line is one of its records."""
        sequences = {int(record.split(",", 2)[1]) for record in self.records}
        return replace(
            self, recovered=[kill for kill in kills if kill.capture.sequence in sequences]
        )

    @property
    def killed_again(self) -> set[int]:
        """The threads of victims that were killed once more, by their own numbers.

        Mostly they are not marked again. While the last thread of a process exits, it is.
        """
        first = {kill.victim.tgid: kill for kill in reversed(self.events["libbpf"].kills)}
        return set(self.made.threads) - {kill.victim.tid for kill in first.values()}

    @cached_property
    def log(self) -> str:
        """The text of the kernel log."""
        return "".join(map(message_text, self.records))

    @cached_property
    def killed_lines(self) -> list[KilledLine]:
        """The "Killed process" lines, without those of threads that were killed once more."""
        lines = parse_killed_lines(map(message_text, self.records))
        return [line for line in lines if line.pid not in self.killed_again]

    @cached_property
    def counted(self) -> int:
        """The rise of the kernel's count, without threads that were killed once more."""
        lines = parse_killed_lines(map(message_text, self.records))
        return self.counter_rise - sum(line.pid in self.killed_again for line in lines)

    def line(self, kill: OomKill) -> KilledLine:
        """Return the first "Killed process" line of a kill; the kernel names a thread in it."""
        return next(line for line in self.killed_lines if line.pid == kill.victim.tid)

    def logged_kills(self, events: SourceEvents) -> list[OomKill]:
        """Return those kills of a source that have a line in the log."""
        return [k for k in events.kills if k.victim.tgid not in self.made.already_exiting]

    @cached_property
    def swapped(self) -> dict[int, int]:
        """The pages of swap of each process in the task tables, by pid."""
        return {int(row["pid"]): int(row["swapped"]) for row in _ROW.finditer(self.log)}

    @cached_property
    def headers(self) -> dict[int, dict[str, str]]:
        """The header of each report, by the pid of the chosen process."""
        headers: dict[int, dict[str, str]] = {}
        current: dict[str, str] = {}
        for line in self.log.splitlines():
            if invoked := _INVOKED.search(line):
                current = {"limit": "", "usage": "", **invoked.groupdict()}
            elif trigger := _TRIGGER.search(line):
                current |= trigger.groupdict()
            elif limit := _LIMIT.search(line):
                current |= limit.groupdict()
            elif chosen := _HEADER.search(line):
                headers[int(chosen["pid"])] = current | chosen.groupdict()
                current = {}
        return {pid: header for pid, header in headers.items() if "mask" in header}


def memcg_below_group(kill: OomKill, made: ScenarioKills) -> bool:
    """Return whether the log says no more than that the victim was below the cgroup of a group.

    While the process exists, live capture reads its cgroup; a file has the group's, with "/…".
    """
    if kill.memcg is None or not kill.memcg.path.endswith("/…"):
        return False
    (path,) = (path for path, pids in made.memcgs.items() if kill.victim.tgid in pids)
    assert path.startswith(kill.memcg.path.removesuffix("…"))
    return True
