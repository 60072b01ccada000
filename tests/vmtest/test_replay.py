"""Replay of a guest's log finds the kills that were captured as it was written.

Each scenario's part of the kernel log is written as several producers keep it: the real dmesg
formats the output of syslog(2), syslog daemons and journald write as they document it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from otel_oom.model.events import OomKill
from tests.testlib.samples.replay_logs import BOOT, ENDED_NS, replay_kills
from tests.vmtest.scenario_result import ScenarioResult, memcg_below_group
from tests.vmtest.scenarios import SCENARIOS, STORM

_US: Final = 1_000_000
_ESCAPE: Final = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Logged:
    """A record of the kernel's log: its level, its time in microseconds, its text as printed."""

    level: int
    us: int
    text: bytes

    @property
    def prefix(self) -> bytes:
        """The time as dmesg and syslog(2) print it."""
        return b"[%5d.%06d] " % divmod(self.us, _US)


def _logged(record: str) -> Logged:
    """A record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg)."""
    prefix, _, body = record.partition(";")
    level, _, us = prefix.split(",")[:3]
    text = _ESCAPE.sub(
        lambda found: bytes([int(found[1], 16)]), body.partition("\n")[0].encode("ascii")
    )
    return Logged(int(level), int(us), text)


def _dmesg(*options: str) -> Callable[[Sequence[Logged], Path], bytes]:
    def printed(log: Sequence[Logged], folder: Path) -> bytes:
        raw = folder / "raw"
        raw.write_bytes(b"".join(b"<%d>%s%s\n" % (r.level, r.prefix, r.text) for r in log))
        command = ["dmesg", "--file", str(raw), "--color=never", *options]
        return subprocess.run(command, capture_output=True, check=True).stdout

    return printed


def _syslog(log: Sequence[Logged], _: Path) -> bytes:
    """As rsyslog writes kern.log, with the kernel's own time in each line."""
    return b"".join(b"Nov 14 21:00:00 guest kernel: %s%s\n" % (r.prefix, r.text) for r in log)


def _messages(log: Sequence[Logged], _: Path) -> bytes:
    """Return the log as rsyslog writes it from the journal, with seconds."""
    lines = []
    for record in log:
        minutes, second = divmod(record.us // _US, 60)
        hour, minute = divmod(minutes, 60)
        lines.append(
            b"Nov 14 %02d:%02d:%02d guest kernel: %s\n" % (hour, minute, second, record.text)
        )
    return b"".join(lines)


def _export(log: Sequence[Logged], _: Path) -> bytes:
    """Return the log as journald keeps it, each message after its size."""
    return b"".join(
        b"__CURSOR=s\n__REALTIME_TIMESTAMP=%d\n_BOOT_ID=%s\n_HOSTNAME=guest\n_TRANSPORT=kernel\n"
        b"SYSLOG_FACILITY=0\n_SOURCE_MONOTONIC_TIMESTAMP=%d\nMESSAGE\n%s%s\n\n"
        % (
            ENDED_NS // 1000 + record.us,
            BOOT.encode(),
            record.us,
            len(record.text).to_bytes(8, "little"),
            record.text,
        )
        for record in log
    )


PRODUCERS: Final = {
    "dmesg": _dmesg(),
    "dmesg -x": _dmesg("--decode"),
    "kern.log": _syslog,
    "messages": _messages,
    "journal": _export,
}

logs = pytest.mark.parametrize("producer", PRODUCERS)


@pytest.fixture
def live(result: ScenarioResult) -> list[OomKill]:
    """Return the kills captured from the log as it was written, of the scenario's own victims.

    Other programs of this machine may have kills at the same time.
    """
    own = {
        kill.victim.tid
        for events in result.events.values()
        for kill in events.kills
        if kill.victim.tgid in result.made.pids
    }
    return [kill for kill in result.events["kmsg"].kills if kill.victim.tid in own]


@pytest.fixture
def replayed(
    result: ScenarioResult, live: list[OomKill], producer: str, tmp_path: Path
) -> list[OomKill]:
    """Return those kills that replay finds in the scenario's log."""
    text = PRODUCERS[producer]([_logged(record) for record in result.records], tmp_path)
    tids = {kill.victim.tid for kill in live}
    return [kill for kill in replay_kills(text) if kill.victim.tid in tids]


@logs
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "hostile"])
def test_replay_finds_what_was_captured_live(
    result: ScenarioResult, live: list[OomKill], replayed: list[OomKill]
) -> None:
    """The same victims in the same order with the same report, less the fields from /proc."""
    assert [kill.victim.tid for kill in replayed] == [kill.victim.tid for kill in live]
    assert len({kill.uid for kill in replayed}) == len(live)
    for replayed_kill, captured in zip(replayed, live, strict=True):
        fields = _fields_of_log(replayed_kill)
        if memcg_below_group(replayed_kill, result.made):
            fields["memcg"] = None
        assert fields == _fields_of_log(captured)
        assert (replayed_kill.incident is None) == (captured.incident is None)
        if replayed_kill.trigger:
            assert captured.trigger
            assert replayed_kill.trigger.comm == captured.trigger.comm
    assert _tids_by_incident(replayed) == _tids_by_incident(live)


@pytest.mark.parametrize("scenario", ["storm"])
@logs
def test_replay_finds_each_kill_of_a_storm(result: ScenarioResult, replayed: list[OomKill]) -> None:
    """In the order of the kernel's lines."""
    victims = [kill.victim.tgid for kill in replayed]
    assert len(victims) == STORM
    assert set(victims) == set(result.made.pids)
    assert victims == [line.pid for line in result.killed_lines if line.pid in set(victims)]


@pytest.mark.parametrize("producer", ["journal"])
@pytest.mark.parametrize("scenario", ["hostile"])
def test_a_name_with_a_newline_is_replayed_from_the_journal(
    live: list[OomKill], replayed: list[OomKill]
) -> None:
    """In a text log a newline ends the line: there the victim has no line of its own."""
    (replayed_kill,), (captured,) = replayed, live
    assert _fields_of_log(replayed_kill) == _fields_of_log(captured)


def _fields_of_log(kill: OomKill) -> dict[str, Any]:
    """Return the fields of a kill that come from the log itself."""
    decision = kill.decision
    return {
        "comm": kill.victim.comm,
        "uid": kill.victim.uid,
        "score_adj": kill.victim.score_adj,
        "memory": kill.memory,
        "memcg": kill.memcg,
        "stack": kill.stack,
        "skipped": kill.skipped,
        "decision": decision and replace(decision, source=""),
    }


def _tids_by_incident(kills: Sequence[OomKill]) -> list[list[int | None]]:
    """Return the victims of each incident, in order."""
    found: dict[str, list[int | None]] = {}
    for kill in kills:
        found.setdefault(kill.incident or kill.uid, []).append(kill.victim.tid)
    return list(found.values())
