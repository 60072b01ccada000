"""The log that each kernel leaves, read as a file is, beside what was captured live."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.capture.kmsg.reader import parse_record
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LoggedKill
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import OomKill
from tests.vmtest.scenario_result import Played
from tests.vmtest.scenarios import SCENARIOS

KB = 1024
PAGE = 4096

_HELD_BACK = 1 << 20
"""More than a victim's threads can have counted between the table and the kill."""

every = pytest.mark.parametrize("name", SCENARIOS)


def read(played: Played) -> list[OomKill]:
    """The kills in what a file has of the log: it does not tell which thread printed a line."""
    lines = [line for raw in played.records if (line := parse_record(raw.encode()))]
    parser = KernelLogParser()
    told = [parser.feed(replace(line, caller=None, exact=False)) for line in lines]
    events = EventBuilder("boot", "replay", "file", ProcessLookup(Path("/nonexistent")))
    kills = [event for event in [*told, *parser.finish()] if isinstance(event, LoggedKill)]
    return [events.build_kill(event, event.line.time_ns, 0) for event in kills]


def own(played: Played, source: str) -> list[OomKill]:
    """The kills of the scenario: other programs of the machine itself may have some, too."""
    return [kill for kill in played.told[source].kills if kill.victim.tgid in played.made.pids]


@every
def test_the_log_tells_later_what_it_told_live(played: Played) -> None:
    """The same victims in the same order, each with the same facts and the same text.

    Who asked is told live by /proc as well, and so is more of a victim.
    """
    live = {kill.victim.tid: kill for kill in own(played, "kmsg")}
    later = [kill for kill in read(played) if kill.victim.tid in live]
    assert [kill.victim.tid for kill in later] == list(live)
    for kill in later:
        other = live[kill.victim.tid]
        assert other.decision is not None
        assert kill.decision == replace(other.decision, source="file")
        assert (kill.memory, kill.memcg, kill.stack) == (other.memory, other.memcg, other.stack)
        assert (kill.skipped, bool(kill.incident)) == (other.skipped, bool(other.incident))
        victim, seen = kill.victim, other.victim
        assert (victim.comm, victim.uid, victim.score_adj) == (seen.comm, seen.uid, seen.score_adj)
        if kill.trigger and other.trigger:
            assert (kill.trigger.tgid, kill.trigger.tid) == (other.trigger.tgid, other.trigger.tid)
        assert (kill.original, kill.tasks is None) == (
            other.original,
            other.tasks is None,
        )


@every
def test_the_log_tells_no_other_kill(played: Played) -> None:
    """Nothing in it is taken for one that the kernel does not log as such."""
    logged = dict.fromkeys(line.pid for line in played.logged)
    told = [kill.victim.tid for kill in read(played) if not kill.skipped]
    # By the number of a thread, a process of a group may be killed once more.
    assert [tid for tid in told if tid in logged or tid not in played.made.threads] == list(logged)


@every
def test_the_text_is_the_kernels(played: Played) -> None:
    """It has the kill's own line and, where the kernel printed one, the report from its beginning.

    Both sources have it where both read the log; BPF may be told of a kill before its last line.
    """
    for source in played.told:
        for kill in own(played, source):
            header = played.headers.get(kill.victim.tgid or 0)
            if kill.original is None:
                assert source == "libbpf"
                continue
            lines = kill.original.split("\n")
            if header and not kill.incident:
                assert " invoked oom-killer: gfp_mask=" in lines[0]
                assert any(f",pid={kill.victim.tgid}," in line for line in lines)
            if source == "kmsg" and not kill.skipped:
                assert f"Killed process {kill.victim.tid} (" in lines[-1]


@every
def test_the_candidates_are_the_reports(played: Played) -> None:
    """The victim is among them, with what its row and its kill's line say that it held."""
    for source in played.told:
        for kill in own(played, source):
            if kill.tasks is None:
                continue
            assert kill.tasks.count >= len(kill.tasks.largest) > 0
            assert kill.tasks.memcg == (
                kill.decision.memcg.path if kill.decision and kill.decision.memcg else None
            )
            held = [one.total_bytes for one in kill.tasks.largest]
            assert held == sorted(held, reverse=True)
            rows = [one for one in kill.tasks.largest if one.tgid == kill.victim.tgid]
            if not rows or kill.memory is None:
                continue
            (row,) = rows
            assert (row.uid, row.score_adj) == (kill.victim.uid, kill.victim.score_adj)
            assert abs(row.resident - kill.memory.resident) <= _HELD_BACK
            assert row.page_tables == kill.memory.page_tables
            assert row.swap == played.swapped.get(row.tgid, 0) * PAGE


@every
def test_the_report_is_joined_to_what_bpf_tells(played: Played) -> None:
    """What the log beside BPF has of a kill is what the log by itself tells of it.

    It is read right after the mark: the kill's own line may be yet to come.
    """
    texts = {kill.victim.tid: kill.original or "" for kill in played.told["kmsg"].kills}
    for kill in played.told["libbpf"].kills:
        if kill.original:
            assert texts[kill.victim.tid].startswith(kill.original)


@pytest.mark.parametrize("name", ["memcg"])
def test_a_hook_of_bpf_costs_no_report(played: Played) -> None:
    """Whatever reports the decision, the kernel log has the report."""
    (kill,) = played.told["libbpf"].kills
    assert " invoked oom-killer: " in (kill.original or "")
