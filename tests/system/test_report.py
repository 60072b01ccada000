"""The kernel's own report of a kill, where BPF tells of the kill and of its decision."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.source_set import log_beside
from otel_oom.model.events import CapturedEvent, OomKill
from tests.testlib.kernel.kills import kill_one
from tests.testlib.kernel.oracle import KernelLog, parse_killed_lines
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


class Hooked(LibbpfSource):
    """The source as on a kernel where a hook tells of decisions, which ours may not allow."""

    def _open_log(self) -> None:
        """Leave the log to others; what is told is told by the hook."""
        self.decision_source = "fentry/oom_kill_process"


def test_the_report_is_read_beside_a_source_that_does_not() -> None:
    """From its first line to the kill's own, as the kernel's log has them."""
    kills: list[CapturedEvent] = []
    with Hooked() as source, ExitStack() as opened, KernelLog() as kernel:
        log = log_beside(source, opened)
        assert log is not None
        pid = kill_one()
        lines = list(kernel.messages())
        wait_until(lambda: source.drain(kills.append) >= 0 and _of(kills, pid), "the kill is told")
        (kill,) = _of(kills, pid)
        assert kill.original is None
        text = log.completed(kill).original or ""
    (own,) = (line for line in parse_killed_lines(lines) if line.pid == kill.victim.tid)
    reported = text.split("\n")
    assert " invoked oom-killer: " in reported[0]
    assert f"Killed process {own.pid} " in reported[-1]
    assert set(reported) <= {line.rstrip("\n") for message in lines for line in message.split("\n")}


def _of(events: list[CapturedEvent], pid: int) -> list[OomKill]:
    return [e for e in events if isinstance(e, OomKill) and e.victim.tgid == pid]


def test_a_source_that_reads_the_log_needs_no_other() -> None:
    """The log is opened beside what leaves it to others, and only then."""
    with LibbpfSource() as source, ExitStack() as opened:
        by_log = source.decision_source == "/dev/kmsg"
        assert (log_beside(source, opened) is None) == by_log
