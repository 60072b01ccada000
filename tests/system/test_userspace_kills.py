"""Kills by user space out of real journal files, read by the real journalctl."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_oom.capture.userspace.daemons import EARLYOOM, UNITS
from otel_oom.capture.userspace.source import JournalSource
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux import clock
from otel_oom.linux.systemd import journal_follower
from otel_oom.model.events import CapturedEvent, UserspaceKill
from tests.testlib.agent import Agent, run_agent
from tests.testlib.command import mount_namespace, run_otel_oom
from tests.testlib.require import require
from tests.testlib.samples.journal import WRITER, Journal
from tests.testlib.servers.backend import Backend, filter_kills
from tests.testlib.wait import wait_until

NS_PER_S = 10**9
EARLIER_BOOT = "11112222-3333-4444-5555-666677778888"


def words(pid: int) -> str:
    """What earlyoom 1.7 writes of a process that is none."""
    return f'sending SIGTERM to process {pid} uid 0 "gone": badness 9, VmRSS 7 MiB'


# No process of the machine: pids end below (PID_MAX_LIMIT).
A, B, C = 1 << 23, (1 << 23) + 1, (1 << 23) + 2


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """An empty journal of this machine."""
    require(WRITER.exists(), "systemd-journal-remote is missing")
    return Journal(tmp_path, clock.boot_id())


class Told(list[UserspaceKill]):
    """What a source told; raises once for each of ``refusals``."""

    refusals = 0

    def take(self, event: CapturedEvent) -> None:
        """Keep it."""
        assert isinstance(event, UserspaceKill)
        if self.refusals:
            self.refusals -= 1
            raise OSError("the disk is full")
        self.append(event)

    @property
    def pids(self) -> list[int]:
        """Whom they were of."""
        return [event.victim.tgid for event in self if event.victim and event.victim.tgid]


@contextmanager
def running(journal: Journal, *, history: bool = True) -> Iterator[JournalSource]:
    """A source on that journal, which keeps its place beside it."""
    source = JournalSource(
        journal.folder, history=history, find_daemons=lambda: UNITS, program=journal.program()
    )
    with source:
        yield source


def drained(source: JournalSource, wanted: int) -> Told:
    """What it tells, when that are so many."""
    told = Told()
    wait_until(lambda: source.drain(told.take) >= 0 and len(told) >= wanted, "kills are told")
    return told


def test_kills_are_told_once_whenever_they_were(journal: Journal) -> None:
    """Those of before the first start, while it runs, and while it does not: each by one start.

    What another unit says, in whichever words, is none; nor is what is no kill.
    """
    before = time.time_ns() - NS_PER_S
    journal.add("sshd.service", words(B), before - 2000)
    journal.add(EARLYOOM, "mem avail:   100 of  1000 MiB (10.00%)", before - 1000)
    journal.add(EARLYOOM, words(A), before)
    with running(journal) as source:
        (first,) = drained(source, 1)
        assert (first.victim and first.victim.tgid, first.capture.recovered) == (A, True)
        assert first.time_unix_ns == before // 1000 * 1000
        # In the same place as before, and behind it.
        now = time.time_ns()
        journal.add(EARLYOOM, words(B), now)
        ready, _, _ = select.select([source], [], [], 60.0)
        assert ready
        (second,) = drained(source, 1)
        assert (second.victim and second.victim.tgid, second.capture.recovered) == (B, False)
    journal.add(EARLYOOM, words(C), time.time_ns())
    with running(journal) as source:
        told = drained(source, 1)
        assert told.pids == [C]
        assert told[0].capture.recovered
    assert len({first.uid, second.uid, told[0].uid}) == 3


def test_a_kill_of_a_boot_that_nobody_watched_to_its_end_is_told(journal: Journal) -> None:
    """The agent ended, something was killed, and the host booted anew."""
    begin = time.time_ns() - 100 * NS_PER_S
    journal.add(EARLYOOM, words(A), begin, boot_id=EARLIER_BOOT)
    journal.add(EARLYOOM, words(B), begin + NS_PER_S, boot_id=EARLIER_BOOT)
    (journal.folder / "journal-cursor").write_text(_cursor_of_first(journal), encoding="ascii")
    journal.add(EARLYOOM, words(C), time.time_ns())
    with running(journal) as source:
        told = drained(source, 2)
    assert told.pids == [B, C]
    assert [event.boot_id for event in told] == [EARLIER_BOOT, clock.boot_id()]


def _cursor_of_first(journal: Journal) -> str:
    lines = subprocess.run(
        [journal.program(), "--output=json"], capture_output=True, check=True, text=True
    ).stdout.splitlines()
    return str(json.loads(lines[0])["__CURSOR"])


@pytest.mark.parametrize("last", ["ssh.service", EARLYOOM])
def test_without_history_nothing_of_before_is_told(journal: Journal, last: str) -> None:
    """Neither at the first start nor at the next; but what came between them is, all of it.

    Whoever had the last word before.
    """
    journal.add(EARLYOOM, words(A), time.time_ns() - 2 * NS_PER_S)
    journal.add(last, words(A), time.time_ns() - NS_PER_S)
    with running(journal, history=False) as source:
        wait_until(lambda: source.drain(Told().take) == 0 and _has_place(journal), "it has begun")
    journal.add_at_once(EARLYOOM, [words(B), words(C)], time.time_ns())
    with running(journal, history=False) as source:
        assert drained(source, 2).pids == [B, C]


def _has_place(journal: Journal, state: str = "") -> bool:
    return (journal.folder / f"{state}journal-cursor").exists()


def test_what_could_not_be_stored_comes_again(journal: Journal) -> None:
    """In its place, with all that was read along with it; what was told before does not."""
    journal.add("ssh.service", "hello", time.time_ns() - NS_PER_S)
    told = Told()
    with running(journal) as source:
        wait_until(lambda: source.drain(told.take) == 0 and _has_place(journal), "it has begun")
        journal.add_at_once(EARLYOOM, [words(A), words(B), words(C)], time.time_ns())
        told.refusals = 2

        def refused() -> bool:
            try:
                source.drain(told.take)
            except OSError:
                return True
            return False

        wait_until(refused, "a kill is refused")
        assert refused()
        wait_until(lambda: source.drain(told.take) >= 0 and len(told) >= 3, "kills are told")
    assert told.pids == [A, B, C]


def test_an_invalid_cursor_loses_no_kill(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """journalctl rejects it again and again; then this boot is read from its start."""
    monkeypatch.setattr(journal_follower, "_RETRY_S", 0.1)
    journal.add(EARLYOOM, words(A), time.time_ns() - NS_PER_S)
    (journal.folder / "journal-cursor").write_text("s=nothing\n", encoding="ascii")
    with running(journal) as source:
        told = Told()
        wait_until(
            lambda: source.drain(told.take) >= 0 and told,
            "the kill is told",
            limit=60.0,
        )
    assert told.pids == [A]


@pytest.mark.parametrize("program", ["/nowhere/journalctl", "/bin/false"])
def test_a_host_without_a_journal_has_no_such_kills(
    journal: Journal, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    """No program for it, or one that fails: a line in the log, once, and nothing else."""
    source = JournalSource(
        journal.folder, history=True, find_daemons=lambda: UNITS, program=program
    )
    with source:
        wait_until(lambda: source.drain(Told().take) == 0 and caplog.text, "it says so")
    assert caplog.text.count("Cannot read userspace OOM daemons") == 1


def test_a_host_without_a_killer_has_no_process_for_it(journal: Journal) -> None:
    """Nothing is started, and nothing is ever readable."""
    source = JournalSource(
        journal.folder,
        history=True,
        find_daemons=lambda: (),
        program=str(journal.folder / "missing"),
    )
    with source:
        assert source.drain(Told().take) == 0
        assert select.select([source], [], [], 0) == ([], [], [])


@contextmanager
def whole_agent(journal: Journal, receiver: Receiver) -> Iterator[Agent]:
    """The agent on a host that has earlyoom's unit and this journal, and what it is told of."""
    units = "/run/systemd/system"
    host = mount_namespace(
        "mount -t tmpfs none /run", f"mkdir -p {units}", f"touch {units}/{EARLYOOM}"
    )
    program = Path(journal.program())
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
    }
    with run_agent(journal.folder, environ, prefix=host) as running:
        yield running


@pytest.mark.usefixtures("real_kills")
def test_the_agent_tells_of_kills_that_the_kernel_did_not_make(journal: Journal) -> None:
    """As the same event, on its own trace, once: over a SIGKILL, and found by the next start."""
    backend = Backend()
    with Receiver(backend) as receiver:
        journal.add("ssh.service", "hello", time.time_ns() - NS_PER_S)
        with whole_agent(journal, receiver) as running:
            wait_until(lambda: _has_place(journal, "state/"), "the journal is read")
            journal.add(EARLYOOM, words(A), time.time_ns())
            backend.wait_for_kills([A], within_s=60)
            assert "--source auto uses " in running.log_text()
            assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        journal.add(EARLYOOM, words(B), time.time_ns())
        with whole_agent(journal, receiver) as running:
            backend.wait_for_kills([A, B], within_s=60)
            assert running.stop() == 0
    pids = [A, B]
    logs, spans = filter_kills(backend.logs, pids), filter_kills(backend.spans, pids)
    # What the first was sending when it was killed is sent again, under the same uid.
    told = {log.uid: log.attributes for log in logs}
    assert [one["process.pid"] for one in told.values()] == pids
    assert {log.item.event_name for log in logs} == {"oom.kill"}
    assert {one["oom.killer.name"] for one in told.values()} == {"earlyoom"}
    assert [one["log.record.original"] for one in told.values()] == [words(pid) for pid in pids]
    assert {log.uid: log.item.trace_id for log in logs} == {
        span.uid: span.item.trace_id for span in spans
    }
    state = str(journal.folder / "state")
    listed = run_otel_oom("events", "--state-dir", state)
    assert listed.out.count("signalled by earlyoom") == len(pids)
    for which in (logs[0].uid, str(A)):
        page = run_otel_oom("show", which, "--state-dir", state)
        assert (page.code, "earlyoom sent SIGTERM to gone" in page.out) == (0, True)
