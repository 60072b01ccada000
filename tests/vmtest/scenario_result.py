"""One scenario of one kernel, as values: what was made, logged, counted, and told by a source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self

from msgspec import convert

from otel_oom.model.events import NoVictim, OomKill, ReaperStep, VictimExit
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import TaskList
from tests.testlib.kernel.oracle import KilledLine
from tests.vmtest.scenario_kills import Made

SOURCES: Final = ("libbpf", "kmsg")
"""Both run in each guest; what the second one can know is what the kernel prints."""

_HEADER = re.compile(
    r"oom-kill:constraint=CONSTRAINT_(?P<constraint>\w+),"
    r".*?,(?:global_oom|oom_memcg=(?P<hit>[^,]*)),task_memcg=(?P<memcg>[^,]*),task=.*,"
    r"pid=(?P<pid>\d+),uid="
)
_INVOKED = re.compile(
    r"invoked oom-killer: gfp_mask=(?P<mask>0x[0-9a-f]+)\((?P<flags>[^)]*)\), "
    r"order=(?P<order>-?\d+),"
)
_ASKING = re.compile(r"CPU: \d+ (?:UID: \d+ )?PID: (?P<asking>\d+) ")
_ROW = re.compile(r"^\[ *(?P<pid>\d+)\] +\d+ +\d+ +[\d ]+ (?P<swapped>\d+) +-?\d+ ", re.MULTILINE)
_LIMIT = re.compile(r"memory: usage (?P<usage>\d+)kB, limit (?P<limit>\d+)kB, failcnt")


@dataclass(frozen=True)
class Told:
    """What one source told of a scenario."""

    source: str
    kills: list[OomKill]
    exits: list[VictimExit]
    in_vain: list[NoVictim]
    reapings: list[ReaperStep]
    seen: list[Snapshot]
    """What was seen of each kill, where that was looked at."""
    scanned: list[TaskList | None]
    """The largest processes after each kill, where they were scanned."""

    @classmethod
    def from_json(cls, source: str, value: Mapping[str, Any]) -> Self:
        """What `tests.vmtest.guest_main` has written."""
        return cls(
            source,
            [convert(kill, OomKill) for kill in value["kills"]],
            [convert(exit_, VictimExit) for exit_ in value["exits"]],
            [convert(event, NoVictim) for event in value["in_vain"]],
            [convert(event, ReaperStep) for event in value["reapings"]],
            [convert(seen, Snapshot) for seen in value["seen"]],
            [convert(scanned, TaskList | None) for scanned in value["scanned"]],
        )


@dataclass(frozen=True)
class Played:
    """One scenario of one kernel."""

    made: Made
    told: dict[str, Told]
    log: str
    records: list[str]
    """The same as the kernel's log gives it, each with its number and time."""
    logged: list[KilledLine]
    found: list[OomKill]
    """What the kernel's log tells when all is over, by the marks that its kills have left."""
    counted: int
    """By how much /proc/vmstat's oom_kill rose, less those of processes that were killed before."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `tests.vmtest.guest_main` has written."""
        made = Made(**value["made"])
        told = {name: Told.from_json(name, by_one) for name, by_one in value["told"].items()}
        # A thread that is gone when its line is read is a process of its own to the log's reader.
        again = set(made.threads) - {kill.victim.tid for kill in told["libbpf"].kills}
        kmsg = told["kmsg"]
        kills = [kill for kill in kmsg.kills if kill.victim.tid not in again]
        logged = [KilledLine(**line) for line in value["logged"]]
        return cls(
            made,
            told | {"kmsg": replace(kmsg, kills=kills)},
            value["log"],
            value["records"],
            [line for line in logged if line.pid not in again],
            [convert(kill, OomKill) for kill in value["found"]],
            value["counted"] - sum(line.pid in again for line in logged),
        )

    def line(self, kill: OomKill) -> KilledLine:
        """The first "Killed process" line of a kill; the kernel names a thread in it."""
        return next(line for line in self.logged if line.pid == kill.victim.tid)

    @cached_property
    def swapped(self) -> dict[int, int]:
        """Pages of swap of each process that a report has in its table, by pid."""
        return {int(row["pid"]): int(row["swapped"]) for row in _ROW.finditer(self.log)}

    @cached_property
    def headers(self) -> dict[int, dict[str, str]]:
        """What the log says of each decision, by the pid of whom it chose."""
        found: dict[int, dict[str, str]] = {}
        now: dict[str, str] = {}
        for line in self.log.splitlines():
            if begun := _INVOKED.search(line):
                now = {"limit": "", "usage": "", **begun.groupdict()}
            elif asking := _ASKING.search(line):
                now |= asking.groupdict()
            elif limit := _LIMIT.search(line):
                now |= limit.groupdict()
            elif chosen := _HEADER.search(line):
                found[int(chosen["pid"])] = now | chosen.groupdict()
                now = {}
        return {pid: header for pid, header in found.items() if "mask" in header}
