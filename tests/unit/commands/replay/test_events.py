"""Extraction of events from whole files: reports, boots, hosts, ids, duplicates."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.capture.panic.report import BootLogTail, find_panic
from otel_oom.commands.replay.deduplicate import Deduplicator
from otel_oom.commands.replay.events import EventExtractor
from otel_oom.commands.replay.prefilter import RawLine
from otel_oom.commands.replay.timestamps import FILE, LOG, WITHOUT_YEAR
from otel_oom.enrich import event
from otel_oom.enrich.event import limit_scope
from otel_oom.enrich.host import Host
from otel_oom.enrich.stack_analysis import analyse_stack
from otel_oom.enrich.types import VictimOutcome
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.linux.containers.pod_cgroup import find_pod_cgroup
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.systemd.unit_files import UnitSetting
from otel_oom.model.events import NoVictim, OomKill, Panic
from otel_oom.model.snapshot import Snapshot
from tests.testlib.samples.events import roundtrip
from tests.testlib.samples.log_lines import (
    GROUP_KILL,
    KILLED,
    NO_KILLABLE_PROCESS,
    REPORT,
    killed_line,
)
from tests.testlib.samples.panics import HOST_REPORT, SYSTEM_WIDE, panic_lines
from tests.testlib.samples.replay_logs import (
    ENDED_NS,
    KILL,
    MACHINE,
    dmesg_lines,
    format_export,
    format_json,
    journal_entries,
    replay,
    replay_kills,
    syslog_lines,
)

NOISE = ["Nov 14 21:00:00 db1 sshd[1]: Accepted publickey for root", "not a line of a log"]
DIED = [*HOST_REPORT, *panic_lines(SYSTEM_WIDE)]
PRODUCERS: dict[str, bytes | list[str]] = {
    "kern.log": syslog_lines(f"[  100.{at:06}] {text}" for at, text in enumerate(KILL)),
    "messages": syslog_lines(KILL),
    "dmesg": dmesg_lines(KILL),
    "dmesg -r": [f"<4>{line}" for line in dmesg_lines(KILL)],
    "dmesg -x": [f"kern  :err   : {line}" for line in dmesg_lines(KILL)],
    "dmesg -T": [f"[Tue Nov 14 21:00:00 2023] {text}" for text in KILL],
    "dmesg iso": [f"2023-11-14T21:00:00,{at:06}+00:00 {text}" for at, text in enumerate(KILL)],
    "journal as JSON": format_json(journal_entries(KILL)),
    "journal as export": format_export(journal_entries(KILL)),
    "pstore": ["Panic#1 Part1", *(f"<4>{line}" for line in dmesg_lines(KILL))],
    "nothing but text": list(KILL),
}


@pytest.mark.parametrize("name", PRODUCERS)
def test_a_kill_is_complete_in_every_format(name: str) -> None:
    (kill,) = replay_kills(PRODUCERS[name])
    assert (kill.victim.tgid, kill.victim.comm, kill.victim.uid) == (5356, "tail", 0)
    assert kill.memory is not None
    assert kill.memory.anon == 16000 << 10
    assert kill.memcg is not None
    assert kill.memcg.path == "/outer/inner"
    assert kill.decision is not None
    assert kill.decision.gfp_flags == "GFP_KERNEL"
    assert kill.decision.memcg_usage is not None
    assert kill.decision.memcg_usage.limit == 16384 << 10
    assert kill.trigger is not None
    assert kill.trigger.tid == 5356
    assert kill.stack[0] == "out_of_memory+0x214" or "oom_kill_process" in kill.stack[0]
    assert (kill.capture.source, kill.capture.cpu) == ("replay", None)
    assert roundtrip(kill) == kill


def test_a_kill_has_one_id_in_every_log_that_has_its_uptime() -> None:
    with_uptime = ["kern.log", "dmesg", "dmesg -r", "dmesg -x", "journal as JSON"]
    uids = {kill.uid for name in with_uptime for kill in replay_kills(PRODUCERS[name])}
    uids |= {kill.uid for kill in replay_kills(PRODUCERS["journal as export"])}
    assert len(uids) == 1
    (other,) = replay_kills(dmesg_lines(KILL, since_boot_s=101))
    assert other.uid not in uids


def test_a_kill_has_one_id_in_every_log_that_has_its_second() -> None:
    of_iso, of_ctime = (replay_kills(PRODUCERS[name])[0].uid for name in ("dmesg iso", "dmesg -T"))
    assert of_iso == of_ctime
    (other,) = replay_kills(syslog_lines(KILL, "Nov 14 21:00:01"))
    assert other.uid != of_iso


def test_times_have_a_source() -> None:
    (journal,) = replay_kills(PRODUCERS["journal as JSON"])
    assert journal.provenance is not None
    assert journal.provenance.time_source == LOG
    assert journal.time_unix_ns == ENDED_NS - 5 * 10**9 + (len(KILL) - 1) * 1000
    assert journal.boot_id == "f0e1d2c3-0000-4000-8000-000000000001"
    (without_year,) = replay_kills(PRODUCERS["messages"])
    assert without_year.provenance is not None
    assert without_year.provenance.time_source == WITHOUT_YEAR
    later = [*dmesg_lines(KILL), "[  160.000000] the last line"]
    (uptime,) = replay_kills(later)
    assert uptime.provenance is not None
    assert uptime.provenance.time_source == FILE
    assert round((ENDED_NS - uptime.time_unix_ns) / 1e9) == 60


def test_the_host_is_that_of_the_log() -> None:
    here = Host(
        {"host.name": "laptop", "host.id": "mine", "k8s.cluster.name": "c"},
        UserSymbolizer(Path("/nonexistent")),
        {"k8s.cluster.name": "c", "host.name": "said"},
    )
    (journal,) = replay_kills(PRODUCERS["journal as JSON"])
    assert here.of_event(journal).attributes == {
        "host.name": "db1",
        "host.id": MACHINE,
        "os.type": "linux",
        "k8s.cluster.name": "c",
    }
    (nameless,) = replay_kills(PRODUCERS["dmesg"])
    assert here.of_event(nameless).attributes["host.name"] == "said"
    assert here.of_event(replace(nameless, provenance=None)) is here


def test_lines_of_two_hosts_are_two_logs() -> None:
    other = [line.replace("5356", "77") for line in KILL]
    mixed = [
        line
        for pair in zip(syslog_lines(KILL), syslog_lines(other, host="web2"), strict=True)
        for line in (*pair, *NOISE)
    ]
    first, second = replay_kills(mixed)
    assert [kill.provenance.host for kill in (first, second) if kill.provenance] == ["db1", "web2"]
    assert [kill.victim.tgid for kill in (first, second)] == [5356, 77]
    for kill in (first, second):
        assert kill.memcg is not None
        assert kill.trigger is not None
        assert kill.trigger.tid == kill.victim.tgid


@pytest.mark.parametrize(
    "log",
    [
        [
            *dmesg_lines(REPORT, 10),
            *dmesg_lines(["Linux version 6.1.0"], 10.5),
            *dmesg_lines([KILLED], 11),
        ],
        [*dmesg_lines(REPORT, 10), *dmesg_lines(["usb 1-1: new device", KILLED], 1)],
        [*syslog_lines(REPORT), *syslog_lines(["Linux version 6.1.0", KILLED])],
        [*syslog_lines(REPORT), "-- Reboot --", *syslog_lines([KILLED])],
        [*syslog_lines(REPORT), f"-- Boot {'0' * 32} --", *syslog_lines([KILLED])],
        format_json([*journal_entries(REPORT), *journal_entries([KILLED], 101, _BOOT_ID="0" * 32)]),
    ],
)
def test_a_report_ends_with_its_boot(log: list[str]) -> None:
    chosen, kill = replay_kills(log)
    assert (chosen.memory, len(chosen.stack)) == (None, 5)
    assert kill.memcg is None
    assert not kill.stack


@pytest.mark.parametrize(
    "log",
    [
        [*dmesg_lines(["usb 1-1: new device"] * 9, 1), *dmesg_lines(KILL[15:])],
        [*syslog_lines(["usb 1-1: new device"] * 9), *syslog_lines(KILL[15:])],
        format_json(journal_entries(["usb 1-1: new device", *KILL[15:]])),
        format_export(journal_entries(["usb 1-1: new device", *KILL[15:]])),
    ],
)
def test_a_report_without_its_head_is_read_from_each_producer(log: bytes | list[str]) -> None:
    (kill,) = replay_kills(log)
    assert kill.decision is not None
    assert kill.decision.memcg_usage is not None
    assert kill.decision.memcg_usage.limit == 16384 << 10
    assert kill.tasks is not None
    assert kill.tasks.count == 1


@pytest.mark.parametrize("mark", [",oom_memcg=", ",task_memcg=", ",task="])
def test_a_line_printed_in_parts_is_joined(mark: str) -> None:
    chosen, _, rest = REPORT[-1].partition(mark)
    for log in (dmesg_lines, syslog_lines):
        (kill,) = replay_kills(log([*REPORT[:-1], chosen, mark + rest, KILLED]))
        assert kill.memcg is not None
        assert kill.memcg.path == "/outer/inner"


def test_a_thousand_hosts_take_a_bounded_memory() -> None:
    extractor = EventExtractor(None, ENDED_NS)
    lines = [line for at in range(1000) for line in syslog_lines(REPORT[:1], host=f"host{at}")]
    assert list(extractor.extract(RawLine(line.encode(), relevant=True) for line in lines)) == []
    (kill,) = replay_kills([*lines, *syslog_lines(KILL, host="host0")])
    assert kill.memcg is not None
    held: list[int] = []
    for line in lines:
        extractor._add(RawLine(line.encode(), relevant=True))  # noqa: SLF001  what it holds is its own
        held.append(len(extractor._boots))  # noqa: SLF001  likewise
    assert max(held) == 256


def test_local_unit_files_are_not_used_for_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        event, "find_memory_setting", lambda *_: UnitSetting("MemoryMax=1", Path("/x"))
    )
    (replayed,) = replay_kills(
        [line.replace("/outer", "/system.slice/a.service") for line in dmesg_lines(KILL)]
    )
    here = Host({}, UserSymbolizer(Path("/nonexistent")))
    captured = replace(replayed, provenance=None)
    settings = [
        event.enrich_kill(
            kill, Snapshot(process_found=False), VictimOutcome(), 0, here
        ).limit_setting
        for kill in (captured, replayed)
    ]
    assert settings == [UnitSetting("MemoryMax=1", Path("/x")), None]


def test_the_boot_id_is_read_from_the_marks_of_journalctl() -> None:
    mark = "-- Boot f0e1d2c3000040008000000000000002 --"
    first, second = replay_kills(
        [*syslog_lines(KILL), mark, *syslog_lines(KILL, "Nov 14 22:00:00")]
    )
    assert (first.boot_id, second.boot_id) == ("", "f0e1d2c3-0000-4000-8000-000000000002")


@pytest.mark.parametrize("seconds", ["00 00 00 00 00", "00 00 00 01 01"])
def test_a_group_is_one_incident_though_a_log_has_no_more_than_seconds(seconds: str) -> None:
    group = [*REPORT, KILLED, GROUP_KILL, KILLED, killed_line(5357), killed_line(5358)]
    times = ["00"] * (len(group) - 5) + seconds.split()
    log = [
        line
        for text, second in zip(group, times, strict=True)
        for line in syslog_lines([text], f"Nov 14 21:00:{second}")
    ]
    first, *others = replay_kills([*log[:-1], *NOISE, log[-1]])
    assert [kill.victim.tgid for kill in others] == [5357, 5358]
    assert {kill.incident for kill in others} == {first.uid}
    assert first.incident is None


def test_members_below_the_cgroup_of_a_group_have_its_beginning() -> None:
    """A cgroup with children that account memory has no processes: the kernel's cgroup v2 rule."""
    group = GROUP_KILL.replace("/outer", "/kubepods/pod11111111-2222-3333-4444-555555555555")
    inner = "/kubepods/pod11111111-2222-3333-4444-555555555555"
    report = [line.replace("/outer", inner) for line in REPORT]
    first, *rest = replay_kills(
        dmesg_lines([*report, KILLED, group, killed_line(6), killed_line(7)])
    )
    assert first.memcg is not None
    assert first.memcg.path == f"{inner}/inner"
    assert [kill.memcg and kill.memcg.path for kill in rest] == [f"{inner}/…"] * 2
    assert [limit_scope(kill, analyse_stack(kill.stack)) for kill in rest] == ["pod", "pod"]
    assert find_pod_cgroup(f"{inner}/…") == find_pod_cgroup(f"{inner}/inner")


def test_kills_long_after_a_group_are_their_own() -> None:
    log = syslog_lines([*KILL, GROUP_KILL]) + syslog_lines([killed_line(5357)], "Nov 14 21:00:02")
    assert [kill.incident for kill in replay_kills(log)] == [None, None]


def test_a_storm_is_extracted_in_order_and_once() -> None:
    log = syslog_lines([*KILL, *(killed_line(pid) for pid in range(6000, 6300))])
    storm = replay_kills(log)
    assert [kill.victim.tgid for kill in storm] == [5356, *range(6000, 6300)]
    assert len({kill.uid for kill in storm}) == 301


def test_a_decision_without_a_victim_is_extracted() -> None:
    no_victim = [*REPORT[:-1], NO_KILLABLE_PROCESS]
    for log in (syslog_lines(no_victim * 2), dmesg_lines(no_victim * 2)):
        (event,) = replay(log)
        assert isinstance(event, NoVictim)
        assert event.decision is not None
        assert event.decision.memcg is not None


@pytest.mark.parametrize(
    "log",
    [
        ["Panic#1 Part1", *(f"<4>{line}" for line in dmesg_lines(DIED, 500.0))],
        dmesg_lines([*DIED, *NOISE * 100], 500.0),
        syslog_lines(f"[  500.{at:06}] {text}" for at, text in enumerate(DIED)),
        format_export(journal_entries(DIED, 500.0)),
    ],
)
def test_a_panic_is_extracted(log: bytes | list[str]) -> None:
    (event,) = replay(log)
    assert isinstance(event, Panic)
    assert event.message == SYSTEM_WIDE
    assert (event.tid, event.comm) == (5356, "tail")
    assert "__alloc_pages_slowpath+0xdb3" in event.stack
    assert REPORT[0] in event.original
    kept = BootLogTail(
        "pstore",
        "/sys/fs/pstore",
        [Line(text, 500 * 10**9 + at * 1000, at) for at, text in enumerate(DIED)],
    )
    at_start = find_panic(kept)
    assert at_start is not None
    assert event.uid == at_start.uid
    assert roundtrip(event) == event
    deduplicator = Deduplicator()
    assert [deduplicator.add(event), deduplicator.add(event)] == [True, False]


def test_a_panic_ends_with_its_boot() -> None:
    (cut,) = replay(dmesg_lines(DIED[: len(HOST_REPORT) + 2]))
    assert isinstance(cut, Panic)
    panicked, kill = replay(
        [*dmesg_lines(DIED), *dmesg_lines(["Linux version 6.1"], 0), *dmesg_lines(KILL, 50)]
    )
    assert isinstance(panicked, Panic)
    assert isinstance(kill, OomKill)


def test_lines_that_only_resemble_a_kill_are_ignored() -> None:
    log = [
        "Nov 14 21:00:00 db1 systemd[1]: a.service: Killed process 5356 (tail) with signal SIGKILL",
        f"Nov 14 21:00:00 db1 app[7]: {KILLED}",
        f"Nov 14 21:00:00 db1 kernel: app: {KILLED[:80]}",
        "Nov 14 21:00:00 db1 kernel: Killed process",
    ]
    assert replay(log) == []


def test_any_bytes_can_be_read() -> None:
    (kill,) = replay_kills(syslog_lines([killed_line(7, "a\udcff)b")]))
    assert kill.victim.comm == "a\\xff)b"
    assert replay(bytes(range(256)) * 100 + KILLED.encode()) == []


def test_a_hostile_name_does_not_change_the_id() -> None:
    (one,) = replay_kills(dmesg_lines([killed_line(7, "a\\x1b) (b")]))
    (other,) = replay_kills(dmesg_lines([killed_line(7, "a#033) (b")]))
    assert one.uid == other.uid


def _count_new(*logs: list[str] | bytes) -> int:
    deduplicator = Deduplicator()
    return sum(deduplicator.add(kill) for log in logs for kill in replay_kills(log))


def test_the_same_kill_of_several_logs_is_one() -> None:
    logs = [log for name, log in PRODUCERS.items() if name != "nothing but text"]
    journals = [log for name, log in PRODUCERS.items() if name.startswith("journal")]
    # The samples' journal was read an hour after the samples' syslog.
    assert _count_new(*journals) == 1
    assert _count_new(*(log for log in logs if log not in journals)) == 1
    assert _count_new(syslog_lines(KILL), syslog_lines(KILL, "Nov 14 21:00:01")) == 1


def test_different_kills_are_not_duplicates() -> None:
    assert _count_new(syslog_lines([killed_line(1), killed_line(2)])) == 2
    assert _count_new(syslog_lines(KILL), syslog_lines(KILL, host="web2")) == 2
    assert _count_new(syslog_lines(KILL), syslog_lines(KILL, host="db1.example.com")) == 1
    assert _count_new(dmesg_lines(KILL), dmesg_lines(KILL, since_boot_s=100.5)) == 2
    assert _count_new(syslog_lines(KILL), syslog_lines(KILL, "Nov 13 05:00:00")) == 2


def test_decisions_without_a_victim_minutes_apart_are_different() -> None:
    deduplicator = Deduplicator()
    for time, is_new in (("21:00:00", True), ("21:00:00", False), ("21:05:00", True)):
        (event,) = replay(syslog_lines([NO_KILLABLE_PROCESS], f"Nov 14 {time}"))
        assert deduplicator.add(event) == is_new
