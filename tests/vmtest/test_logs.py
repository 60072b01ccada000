"""The log of each kernel, read as a file, beside what was captured live."""

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
from tests.vmtest.scenario_result import ScenarioResult, memcg_below_group
from tests.vmtest.scenarios import SCENARIOS

KB = 1024


every = pytest.mark.parametrize("scenario", SCENARIOS)


def read_as_file(result: ScenarioResult) -> list[OomKill]:
    """Return the kills in a file of the log, which does not say which thread printed a line."""
    lines = [line for raw in result.records if (line := parse_record(raw.encode()))]
    parser = KernelLogParser()
    events = [parser.feed(replace(line, caller=None, exact=False)) for line in lines]
    builder = EventBuilder("boot", "replay", "file", ProcessLookup(Path("/nonexistent")))
    kills = [event for event in [*events, *parser.finish()] if isinstance(event, LoggedKill)]
    return [builder.build_kill(event, event.line.time_ns, 0) for event in kills]


def own_kills(result: ScenarioResult, source: str) -> list[OomKill]:
    """Return the kills of the scenario: other programs of this machine may have kills as well."""
    return [kill for kill in result.events[source].kills if kill.victim.tgid in result.made.pids]


@every
def test_a_file_of_the_log_has_the_kills_captured_live(result: ScenarioResult) -> None:
    """The same victims in the same order, with equal fields and texts.

    Live capture adds fields of victim and trigger from /proc.
    """
    live = {kill.victim.tid: kill for kill in own_kills(result, "kmsg")}
    later = [kill for kill in read_as_file(result) if kill.victim.tid in live]
    assert [kill.victim.tid for kill in later] == list(live)
    for kill in later:
        other = live[kill.victim.tid]
        assert other.decision is not None
        assert kill.decision == replace(other.decision, source="file")
        memcg = None if memcg_below_group(kill, result.made) else kill.memcg
        assert (kill.memory, memcg, kill.stack) == (other.memory, other.memcg, other.stack)
        assert (kill.skipped, bool(kill.incident)) == (other.skipped, bool(other.incident))
        victim, live_victim = kill.victim, other.victim
        assert (victim.comm, victim.uid, victim.score_adj) == (
            live_victim.comm,
            live_victim.uid,
            live_victim.score_adj,
        )
        if kill.trigger and other.trigger:
            assert (kill.trigger.tgid, kill.trigger.tid) == (other.trigger.tgid, other.trigger.tid)
        assert (kill.original, kill.tasks is None) == (
            other.original,
            other.tasks is None,
        )


@every
def test_the_log_has_no_other_kill(result: ScenarioResult) -> None:
    """Nothing else in the log is parsed as a kill."""
    logged = dict.fromkeys(line.pid for line in result.killed_lines)
    tids = [kill.victim.tid for kill in read_as_file(result) if not kill.skipped]
    # By the number of a thread, a process of a group may be killed once more.
    assert [tid for tid in tids if tid in logged or tid not in result.made.threads] == list(logged)


@every
def test_the_original_is_the_kernels_report(result: ScenarioResult) -> None:
    """The kill's own line and, where the kernel printed one, the report from its beginning.

    Both sources have it where both read the log. BPF may be earlier than the last line.
    """
    for source in result.events:
        for kill in own_kills(result, source):
            header = result.headers.get(kill.victim.tgid or 0)
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
def test_the_tasks_are_those_of_the_report(result: ScenarioResult) -> None:
    """The victim is among them, with the sizes of its row and of its kill's line."""
    for source in result.events:
        for kill in own_kills(result, source):
            if kill.tasks is None:
                continue
            assert kill.tasks.count >= len(kill.tasks.largest) > 0
            assert kill.tasks.memcg == (
                kill.decision.memcg.path if kill.decision and kill.decision.memcg else None
            )
            sizes = [task.total_bytes for task in kill.tasks.largest]
            assert sizes == sorted(sizes, reverse=True)
            rows = [task for task in kill.tasks.largest if task.tgid == kill.victim.tgid]
            if not rows or kill.memory is None:
                continue
            (row,) = rows
            assert (row.uid, row.score_adj) == (kill.victim.uid, kill.victim.score_adj)
            assert abs(row.resident - kill.memory.resident) <= result.slack_bytes
            assert row.page_tables == kill.memory.page_tables
            assert row.swap == result.swapped.get(row.tgid, 0) * result.page_bytes


@every
def test_the_report_is_joined_to_the_kill_of_bpf(result: ScenarioResult) -> None:
    """It is read right after the mark: the kill's own line may be yet to come."""
    texts = {kill.victim.tid: kill.original or "" for kill in result.events["kmsg"].kills}
    for kill in result.events["libbpf"].kills:
        if kill.original:
            assert texts[kill.victim.tid].startswith(kill.original)


@pytest.mark.parametrize("scenario", ["memcg"])
def test_a_kill_has_its_report_beside_a_hook_of_bpf(result: ScenarioResult) -> None:
    """Whatever reports the decision, the kernel log has the report."""
    (kill,) = result.events["libbpf"].kills
    assert " invoked oom-killer: " in (kill.original or "")
