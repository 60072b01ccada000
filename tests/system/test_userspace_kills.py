"""Userspace kills from real journal files, read by the real journalctl."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from otel_oom.capture.userspace.daemons import EARLYOOM, UNITS
from otel_oom.capture.userspace.source import JournalSource
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.enrich.event import is_death_by
from otel_oom.linux import clock
from otel_oom.linux.systemd import journal_follower
from otel_oom.model.events import CapturedEvent, UserspaceKill, VictimExit
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

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.exits: list[VictimExit] = []

    def handle(self, event: CapturedEvent) -> None:
        """Record a kill; an exit has its own list."""
        if isinstance(event, VictimExit):
            self.exits.append(event)
            return
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


SECRET = "hunter2"  # noqa: S105  of a sample
NOBODY = 65534


@contextmanager
def run_victims() -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """Run two processes without privileges; the first one's command line forges a kill of both."""
    with ExitStack() as stack:
        other = stack.enter_context(subprocess.Popen(["sleep", "300"], user=NOBODY, group=NOBODY))
        stack.callback(other.kill)
        forged = (
            f'-p{SECRET}"\nsending SIGKILL to process {other.pid} uid 0 "sleep": oom_score 9, '
            f'oom_score_adj 0, VmRSS 9 MiB, cmdline "-p{SECRET}'
        )
        # It lives as long as its input.
        command = ["sh", "-c", "read line", "mysql", forged]
        victim = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, user=NOBODY, group=NOBODY)
        )
        stack.callback(victim.kill)
        yield victim, other


def write_earlyoom_entries(journal: Journal, victim: subprocess.Popen[bytes]) -> None:
    """Add the entries of earlyoom 1.8 about a process, as the journal splits its output."""
    # kill.c and meminfo.c of earlyoom: at most 255 bytes, each NUL a space.
    command = Path(f"/proc/{victim.pid}/cmdline").read_bytes()[:255].replace(b"\0", b" ")
    message = (
        f'sending SIGTERM to process {victim.pid} uid {NOBODY} "sh": oom_score 800, '
        f'oom_score_adj 0, VmRSS 7 MiB, cmdline "{command.decode().rstrip()}"'
    )
    journal.add_at_once(EARLYOOM, message.split("\n"), time.time_ns())


def test_forged_kill_is_not_verified(journal: Journal) -> None:
    """A newline in the arguments of a victim makes an entry about any process."""
    with run_victims() as (victim, other), open_journal(journal) as source:
        write_earlyoom_entries(journal, victim)
        recorder = record(source, 2)
        assert recorder.pids == [victim.pid, other.pid]
        assert [kill.awaited_start_ns is not None for kill in recorder] == [True, True]
        victim.terminate()
        wait_until(lambda: source.drain(recorder.handle) >= 0 and recorder.exits, "the exit")
    (exit_,) = recorder.exits
    real, forged = recorder
    assert (exit_.kill_uid, exit_.exit_code) == (real.uid, signal.SIGTERM)
    assert is_death_by(real, exit_)
    assert not forged.verified
    assert SECRET not in repr([*recorder])


def test_command_line_is_kept_on_request(journal: Journal) -> None:
    source = JournalSource(
        journal.folder,
        history=True,
        want_command=True,
        find_daemons=lambda: UNITS,
        program=journal.program(),
    )
    with run_victims() as (victim, _), source:
        write_earlyoom_entries(journal, victim)
        kill = record(source, 1)[0]
    assert kill.victim
    assert kill.victim.command
    assert kill.victim.command[:4] == ("sh", "-c", "read", "line")
    assert SECRET not in kill.original


def test_newline_in_a_name_hides_no_kill(journal: Journal, tmp_path: Path) -> None:
    """earlyoom's message ends within the name; what follows is another entry."""
    (program := tmp_path / "a\nb").symlink_to(shutil.which("sleep") or "")
    with subprocess.Popen([program, "5"]) as victim, open_journal(journal) as source:
        comm = Path(f"/proc/{victim.pid}/comm").read_text(encoding="ascii")[:-1]
        message = (
            f'sending SIGTERM to process {victim.pid} uid 0 "{comm}": oom_score 8, VmRSS 7 MiB'
        )
        journal.add_at_once(EARLYOOM, message.split("\n"), time.time_ns())
        (kill,) = record(source, 1)
        victim.kill()
    assert kill.victim
    assert (kill.victim.tgid, kill.victim.comm) == (victim.pid, "a\nb")
    assert kill.awaited_start_ns


def test_only_the_daemon_itself_is_verified(journal: Journal) -> None:
    """A script that runs in its unit prints what it likes; of an old kill nothing is left."""
    with run_victims() as (victim, _), open_journal(journal) as source:
        message = f'sending SIGTERM to process {victim.pid} uid 0 "sh": badness 9, VmRSS 7 MiB'
        journal.add(EARLYOOM, message, time.time_ns() - NS_PER_S)
        journal.add(EARLYOOM, message, time.time_ns(), executable="/usr/bin/dash")
        journal.add(EARLYOOM, message, time.time_ns(), executable="")
        recorder = record(source, 3)
    assert [(kill.verified, kill.awaited_start_ns) for kill in recorder] == [(False, None)] * 3


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


@pytest.mark.usefixtures("real_kills")
def test_agent_marks_a_forged_kill_and_sends_no_secret(journal: Journal) -> None:
    """Neither to the backend, nor to its own log, nor to the disk."""
    backend = Backend()
    with Receiver(backend) as receiver, run_victims() as (victim, other):
        pids = [victim.pid, other.pid]
        journal.add("ssh.service", "hello", time.time_ns() - NS_PER_S)
        with run_agent_with_journal(journal, receiver) as running:
            wait_until(lambda: _has_cursor(journal, "state/"), "the journal is read")
            write_earlyoom_entries(journal, victim)
            wait_until(lambda: running.log_text().count("Kill by earlyoom") == len(pids), "both")
            victim.terminate()
            backend.wait_for_kills(pids, within_s=60)
            log_text = running.log_text()
            assert running.stop() == 0
    logs = filter_kills(backend.logs, pids)
    attributes = {log.attributes["process.pid"]: log.attributes for log in logs}
    marks = ("oom.killer.verified", "oom.outcome")
    assert {pid: tuple(attributes[pid][mark] for mark in marks) for pid in pids} == {
        victim.pid: (True, "killed"),
        other.pid: (False, "signalled"),
    }
    files = [file for file in (journal.folder / "state").iterdir() if file.is_file()]
    assert files
    assert SECRET not in repr(backend.logs) + repr(backend.spans) + log_text
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
    # Other tests kill at the same time.
    listed = run_otel_oom("events", "--since", "1h", "--state-dir", journal.folder / "state")
    assert "killed by earlyoom" in listed.out
    assert "signalled by earlyoom, unverified" in listed.out


def test_replay_reads_the_daemons_in_the_files_of_a_journal(journal: Journal) -> None:
    """By their units alone: not what another unit writes, nor a script in the daemon's unit."""
    now_ns = clock.boottime_ns() + clock.boot_to_unix_offset_ns() - 60 * NS_PER_S
    journal.add(EARLYOOM, earlyoom_message(A), now_ns)
    journal.add("bot.service", earlyoom_message(B), now_ns)
    journal.add(EARLYOOM, earlyoom_message(C), now_ns, executable="/usr/bin/bash")
    done = run_otel_oom("replay", "--json", *journal.files.glob("*.journal"))
    assert done.code == 0, done
    records = [
        {each["key"]: next(iter(each["value"].values())) for each in record["attributes"]}
        for line in done.out.splitlines()
        for group in json.loads(line).get("resourceLogs", ())
        for record in group["scopeLogs"][0]["logRecords"]
    ]
    (kill,) = records
    assert (int(kill["process.pid"]), kill["oom.killer.name"]) == (A, "earlyoom")
    assert (kill["oom.killer.verified"], kill["oom.log.source"]) == (False, "journal")
