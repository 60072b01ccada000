"""What a replayed log tells of a guest's kills is what was captured from the log as it was written.

Each scenario's part of the kernel's log is written as several producers keep it: the real dmesg
formats what syslog(2) would have given, syslog daemons and journald write as they document it.
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
from tests.vmtest.scenario_result import Played
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
    """As rsyslog writes messages where it reads the journal: the second, and no more."""
    lines = []
    for record in log:
        minutes, second = divmod(record.us // _US, 60)
        hour, minute = divmod(minutes, 60)
        lines.append(
            b"Nov 14 %02d:%02d:%02d guest kernel: %s\n" % (hour, minute, second, record.text)
        )
    return b"".join(lines)


def _export(log: Sequence[Logged], _: Path) -> bytes:
    """As journald keeps it, with the message behind its size."""
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
def live(played: Played) -> list[OomKill]:
    """What was captured from the log as it was written, of the scenario's own victims.

    Other programs of the machine itself may have kills at the same time.
    """
    own = {
        kill.victim.tid
        for told in played.told.values()
        for kill in told.kills
        if kill.victim.tgid in played.made.pids
    }
    return [kill for kill in played.told["kmsg"].kills if kill.victim.tid in own]


@pytest.fixture
def replayed(played: Played, live: list[OomKill], producer: str, tmp_path: Path) -> list[OomKill]:
    """What replay finds of those in the scenario's log."""
    text = PRODUCERS[producer]([_logged(record) for record in played.records], tmp_path)
    tids = {kill.victim.tid for kill in live}
    return [kill for kill in replay_kills(text) if kill.victim.tid in tids]


@logs
@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "hostile"])
def test_a_log_tells_what_was_captured_from_it(
    live: list[OomKill], replayed: list[OomKill]
) -> None:
    """The same victims in the same order, each with the same report, less what /proc had told."""
    assert [kill.victim.tid for kill in replayed] == [kill.victim.tid for kill in live]
    assert len({kill.uid for kill in replayed}) == len(live)
    for told, captured in zip(replayed, live, strict=True):
        assert _of_the_log(told) == _of_the_log(captured)
        assert (told.incident is None) == (captured.incident is None)
        if told.trigger:
            assert captured.trigger
            assert told.trigger.comm == captured.trigger.comm
    assert _incidents(replayed) == _incidents(live)


@pytest.mark.parametrize("name", ["storm"])
@logs
def test_a_storm_is_as_many_events_in_its_log(played: Played, replayed: list[OomKill]) -> None:
    """300, those that were made, in the order of the kernel's own lines."""
    victims = [kill.victim.tgid for kill in replayed]
    assert len(victims) == STORM
    assert set(victims) == set(played.made.pids)
    assert victims == [line.pid for line in played.logged if line.pid in set(victims)]


@pytest.mark.parametrize("producer", ["journal"])
@pytest.mark.parametrize("name", ["hostile"])
def test_a_name_with_a_newline_is_told_by_the_journal(
    live: list[OomKill], replayed: list[OomKill]
) -> None:
    """Of text a newline ends the line: there the victim has no line of its own."""
    (told,), (captured,) = replayed, live
    assert _of_the_log(told) == _of_the_log(captured)


def _of_the_log(kill: OomKill) -> dict[str, Any]:
    """What of a kill the log tells by itself."""
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


def _incidents(told: Sequence[OomKill]) -> list[list[int | None]]:
    """The victims of each incident, in their order."""
    found: dict[str, list[int | None]] = {}
    for kill in told:
        found.setdefault(kill.incident or kill.uid, []).append(kill.victim.tid)
    return list(found.values())
