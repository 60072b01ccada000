"""What the kernel log adds to kills that BPF captures."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.kmsg.report_lookup import open_report_index
from otel_oom.capture.kmsg.source import KmsgSource
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.model.events import CapturedEvent, OomKill
from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import kill_in, kill_one
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.kernel.oracle import (
    KernelLog,
    parse_killed_lines,
    wait_for_report_budget,
)
from tests.testlib.servers.backend import Backend, filter_kills
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


def test_a_kill_has_the_report_of_the_kernel_log() -> None:
    """From its first line to the kill's own, with the decision where no hook reports it."""
    kills: list[CapturedEvent] = []
    # Other tests' kills before may have used up what the kernel prints in five seconds.
    wait_for_report_budget(1)
    with LibbpfSource() as source, open_report_index(source) as annotate, KernelLog() as kernel:
        pid = kill_one()
        lines = list(kernel.read_messages())
        wait_until(
            lambda: source.drain(kills.append) >= 0 and _of(kills, pid), "the kill is captured"
        )
        (kill,) = _of(kills, pid)
        assert kill.original is None
        annotated = annotate(kill)
    (own,) = (line for line in parse_killed_lines(lines) if line.pid == kill.victim.tid)
    reported = (annotated.original or "").split("\n")
    assert " invoked oom-killer: " in reported[0]
    assert f"Killed process {own.pid} " in reported[-1]
    assert set(reported) <= {line.rstrip("\n") for message in lines for line in message.split("\n")}
    assert annotated.tasks is not None
    assert annotated.decision is not None
    assert annotated.decision.source == (source.decision_source or "/dev/kmsg")
    assert annotate(annotated) == annotated


def test_a_kill_before_the_log_is_opened_has_its_report() -> None:
    """The programs are attached first; also where they are not pinned, as in the demo."""
    kills: list[CapturedEvent] = []
    wait_for_report_budget(1)
    with LibbpfSource() as source:
        pid = kill_one()
        wait_until(
            lambda: source.drain(kills.append) >= 0 and _of(kills, pid), "the kill is captured"
        )
        with open_report_index(source) as annotate:
            annotated = annotate(_of(kills, pid)[0])
    assert annotated.decision is not None
    assert " invoked oom-killer: " in (annotated.original or "")


def _of(events: list[CapturedEvent], pid: int) -> list[OomKill]:
    return [e for e in events if isinstance(e, OomKill) and e.victim.tgid == pid]


def test_a_source_that_reads_the_log_needs_no_other() -> None:
    """Its kills have all that the log has."""
    kills: list[CapturedEvent] = []
    with KmsgSource() as source, open_report_index(source) as annotate:
        pid = kill_one()
        wait_until(
            lambda: source.drain(kills.append) >= 0 and _of(kills, pid), "the kill is captured"
        )
        (kill,) = _of(kills, pid)
        bare = replace(kill, decision=None)
        assert annotate(bare) is bare


def test_kills_in_quick_succession_share_one_report(tmp_path: Path) -> None:
    """The later one of a cgroup refers to the first; that of another cgroup has its own."""
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_OOM_REPORT_INTERVAL": "1m",
        }
        with run_agent(tmp_path, environ) as agent, own_memcg() as loud:
            wait_until(lambda: "Reports of OOM kills are read" in agent.log_text(), "the log")
            wait_for_report_budget(3)
            pids = [kill_in(loud), kill_in(loud)]
            with own_memcg() as quiet:
                pids.append(kill_in(quiet))
            backend.wait_for_kills(pids, within_s=20)
    by_pid = {log.attributes["process.pid"]: log for log in filter_kills(backend.logs, pids)}
    first, second, other = (by_pid[pid].attributes for pid in pids)
    for own in (first, other):
        # The kernel prints no more than ten reports in 5 s, those of other tests included.
        assert "oom.tasks.count" in own
        assert "oom.report.id" not in own
    assert second["oom.report.id"] == first["log.record.uid"]
    assert not {"log.record.original", "oom.tasks.count"} & set(second)
    assert second["oom.decision.source"] == first["oom.decision.source"]
