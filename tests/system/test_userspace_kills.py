"""Userspace kills from real journal files, read by the real journalctl."""

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


def earlyoom_message(pid: int) -> str:
    """Return the message of earlyoom 1.7 about a process that does not exist."""
    return f'sending SIGTERM to process {pid} uid 0 "gone": badness 9, VmRSS 7 MiB'


# Not the pids of processes: these are lower (PID_MAX_LIMIT).
A, B, C = 1 << 23, (1 << 23) + 1, (1 << 23) + 2


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return an empty journal of this machine."""
    require(WRITER.exists(), "systemd-journal-remote is missing")
    return Journal(tmp_path, clock.boot_id())


class Recorder(list[UserspaceKill]):
    """A handler that records kills; it fails ``failures`` times."""

    failures = 0

    def handle(self, event: CapturedEvent) -> None:
        """Record a kill."""
        assert isinstance(event, UserspaceKill)
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.append(event)

    @property
    def pids(self) -> list[int]:
        """Return the pids of the victims."""
        return [event.victim.tgid for event in self if event.victim and event.victim.tgid]


@contextmanager
def open_journal(journal: Journal, *, history: bool = True) -> Iterator[JournalSource]:
    """Open a source on that journal, with its cursor beside it."""
    source = JournalSource(
        journal.folder, history=history, find_daemons=lambda: UNITS, program=journal.program()
    )
    with source:
        yield source


def record(source: JournalSource, wanted: int) -> Recorder:
    """Return a number of kills of ``source`` once they are captured."""
    recorder = Recorder()
    wait_until(lambda: source.drain(recorder.handle) >= 0 and len(recorder) >= wanted, "the kills")
    return recorder


def test_each_kill_is_captured_once_over_restarts(journal: Journal) -> None:
    """Before the first start, while it runs, and while it does not."""
    before = time.time_ns() - NS_PER_S
    journal.add("sshd.service", earlyoom_message(B), before - 2000)
    journal.add(EARLYOOM, "mem avail:   100 of  1000 MiB (10.00%)", before - 1000)
    journal.add(EARLYOOM, earlyoom_message(A), before)
    with open_journal(journal) as source:
        (first,) = record(source, 1)
        assert (first.victim and first.victim.tgid, first.capture.recovered) == (A, True)
        assert first.time_unix_ns == before // 1000 * 1000
        # At the cursor, and after it.
        now = time.time_ns()
        journal.add(EARLYOOM, earlyoom_message(B), now)
        ready, _, _ = select.select([source], [], [], 60.0)
        assert ready
        (second,) = record(source, 1)
        assert (second.victim and second.victim.tgid, second.capture.recovered) == (B, False)
    journal.add(EARLYOOM, earlyoom_message(C), time.time_ns())
    with open_journal(journal) as source:
        recorder = record(source, 1)
        assert recorder.pids == [C]
        assert recorder[0].capture.recovered
    assert len({first.uid, second.uid, recorder[0].uid}) == 3


def test_kill_at_the_end_of_an_earlier_boot_is_captured(journal: Journal) -> None:
    """The agent had ended before."""
    begin = time.time_ns() - 100 * NS_PER_S
    journal.add(EARLYOOM, earlyoom_message(A), begin, boot_id=EARLIER_BOOT)
    journal.add(EARLYOOM, earlyoom_message(B), begin + NS_PER_S, boot_id=EARLIER_BOOT)
    (journal.folder / "journal-cursor").write_text(_cursor_of_first(journal), encoding="ascii")
    journal.add(EARLYOOM, earlyoom_message(C), time.time_ns())
    with open_journal(journal) as source:
        recorder = record(source, 2)
    assert recorder.pids == [B, C]
    assert [event.boot_id for event in recorder] == [EARLIER_BOOT, clock.boot_id()]


def _cursor_of_first(journal: Journal) -> str:
    lines = subprocess.run(
        [journal.program(), "--output=json"], capture_output=True, check=True, text=True
    ).stdout.splitlines()
    return str(json.loads(lines[0])["__CURSOR"])


@pytest.mark.parametrize("last", ["ssh.service", EARLYOOM])
def test_no_history_skips_kills_before_the_first_start(journal: Journal, last: str) -> None:
    """All kills after it are captured."""
    journal.add(EARLYOOM, earlyoom_message(A), time.time_ns() - 2 * NS_PER_S)
    journal.add(last, earlyoom_message(A), time.time_ns() - NS_PER_S)
    with open_journal(journal, history=False) as source:
        wait_until(
            lambda: source.drain(Recorder().handle) == 0 and _has_cursor(journal), "a cursor"
        )
    journal.add_at_once(EARLYOOM, [earlyoom_message(B), earlyoom_message(C)], time.time_ns())
    with open_journal(journal, history=False) as source:
        assert record(source, 2).pids == [B, C]


def _has_cursor(journal: Journal, state: str = "") -> bool:
    return (journal.folder / f"{state}journal-cursor").exists()


def test_kill_of_a_failed_handler_stays_pending(journal: Journal) -> None:
    journal.add("ssh.service", "hello", time.time_ns() - NS_PER_S)
    recorder = Recorder()
    with open_journal(journal) as source:
        wait_until(lambda: source.drain(recorder.handle) == 0 and _has_cursor(journal), "a cursor")
        journal.add_at_once(
            EARLYOOM,
            [earlyoom_message(A), earlyoom_message(B), earlyoom_message(C)],
            time.time_ns(),
        )
        recorder.failures = 2

        def fails() -> bool:
            try:
                source.drain(recorder.handle)
            except OSError:
                return True
            return False

        wait_until(fails, "a failure")
        assert fails()
        wait_until(lambda: source.drain(recorder.handle) >= 0 and len(recorder) >= 3, "the kills")
    assert recorder.pids == [A, B, C]


def test_an_invalid_cursor_loses_no_kill(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """journalctl rejects it again and again; then this boot is read from its start."""
    monkeypatch.setattr(journal_follower, "_RETRY_S", 0.1)
    journal.add(EARLYOOM, earlyoom_message(A), time.time_ns() - NS_PER_S)
    (journal.folder / "journal-cursor").write_text("s=nothing\n", encoding="ascii")
    with open_journal(journal) as source:
        recorder = Recorder()
        wait_until(
            lambda: source.drain(recorder.handle) >= 0 and recorder,
            "the kill",
            limit=60.0,
        )
    assert recorder.pids == [A]


@pytest.mark.parametrize("program", ["/nowhere/journalctl", "/bin/false"])
def test_missing_journal_is_logged_once(
    journal: Journal, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    source = JournalSource(
        journal.folder, history=True, find_daemons=lambda: UNITS, program=program
    )
    with source:
        wait_until(lambda: source.drain(Recorder().handle) == 0 and caplog.text, "a warning")
    assert caplog.text.count("Cannot read userspace OOM daemons") == 1


def test_nothing_is_started_without_a_daemon(journal: Journal) -> None:
    source = JournalSource(
        journal.folder,
        history=True,
        find_daemons=lambda: (),
        program=str(journal.folder / "missing"),
    )
    with source:
        assert source.drain(Recorder().handle) == 0
        assert select.select([source], [], [], 0) == ([], [], [])


@contextmanager
def run_agent_with_journal(journal: Journal, receiver: Receiver) -> Iterator[Agent]:
    """Run the agent on a host with the unit of earlyoom and this journal."""
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
def test_agent_delivers_userspace_kills_once(journal: Journal) -> None:
    """Over a SIGKILL and a restart."""
    backend = Backend()
    with Receiver(backend) as receiver:
        journal.add("ssh.service", "hello", time.time_ns() - NS_PER_S)
        with run_agent_with_journal(journal, receiver) as running:
            wait_until(lambda: _has_cursor(journal, "state/"), "the journal is read")
            journal.add(EARLYOOM, earlyoom_message(A), time.time_ns())
            backend.wait_for_kills([A], within_s=60)
            assert "--source auto uses " in running.log_text()
            assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        journal.add(EARLYOOM, earlyoom_message(B), time.time_ns())
        with run_agent_with_journal(journal, receiver) as running:
            backend.wait_for_kills([A, B], within_s=60)
            assert running.stop() == 0
    pids = [A, B]
    logs, spans = filter_kills(backend.logs, pids), filter_kills(backend.spans, pids)
    # What the first was sending when it was killed is sent again, under the same uid.
    attributes = {log.uid: log.attributes for log in logs}
    assert [one["process.pid"] for one in attributes.values()] == pids
    assert {log.item.event_name for log in logs} == {"oom.kill"}
    assert {one["oom.killer.name"] for one in attributes.values()} == {"earlyoom"}
    assert [one["log.record.original"] for one in attributes.values()] == [
        earlyoom_message(pid) for pid in pids
    ]
    assert {log.uid: log.item.trace_id for log in logs} == {
        span.uid: span.item.trace_id for span in spans
    }
    state = str(journal.folder / "state")
    listed = run_otel_oom("events", "--state-dir", state)
    assert listed.out.count("signalled by earlyoom") == len(pids)
    for id_ in (logs[0].uid, str(A)):
        page = run_otel_oom("show", id_, "--state-dir", state)
        assert (page.code, "earlyoom sent SIGTERM to gone" in page.out) == (0, True)
