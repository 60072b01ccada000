"""Kills of systemd-oomd by the signals that the kernel shows."""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.capture.bpf.daemon_signals import DaemonSignal
from otel_oom.capture.userspace import daemon_signals
from otel_oom.capture.userspace.daemons import EARLYOOM, SYSTEMD_OOMD
from otel_oom.capture.userspace.kill_builder import KillBuilder
from otel_oom.capture.userspace.messages import ParsedKill
from otel_oom.capture.userspace.oomd_reports import Report
from otel_oom.linux import clock
from otel_oom.linux.systemd.journal_entry import JournalEntry
from otel_oom.model.types import Memcg, Task, UserspaceOomDaemon
from otel_oom.model.units import NS_PER_S, NS_PER_US
from tests.testlib.samples.events import KILL

CGROUP = "/user.slice/user-1000.slice/otel-oom-absent"
OOMD, OTHER = 41, 42


class SignalReader:
    """The ring of signals, which tests fill; ``lost`` found no space there."""

    def __init__(self) -> None:
        self.signals: list[DaemonSignal] = []
        self.lost = 0
        self.request: tuple[int, str] | None = None
        self._epoll = select.epoll()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()

    def read_signals(self) -> list[DaemonSignal]:
        signals, self.signals = self.signals, []
        return signals

    def count_lost(self) -> int:
        return self.lost

    def find_sysrq_request(self, before_ns: int) -> tuple[int, str] | None:
        return self.request if self.request and self.request[0] <= before_ns else None

    def add(self, path: str | None, *, cut: bool = False, sender: int = OOMD) -> None:
        """Add a signal to a process of a cgroup."""
        memcg = Memcg(1, path, path_cut=cut) if path else None
        now_ns = clock.boottime_ns()
        victim = Task(7, comm="hog", start_boottime_ns=1)
        killer = Task(sender, comm="systemd-oomd")
        self.signals.append(DaemonSignal(now_ns, signal.SIGKILL, killer, victim, None, memcg))


@pytest.fixture
def reader() -> SignalReader:
    return SignalReader()


@pytest.fixture
def builder(
    reader: SignalReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KillBuilder]:
    """Return a builder that reads the signals of ``reader``."""
    monkeypatch.setattr("otel_oom.capture.bpf.daemon_signals.DaemonSignalReader", lambda: reader)
    epoll = select.epoll()
    built = KillBuilder(epoll, Path("/proc"), tmp_path / "hooks", want_command=False)
    built.signals.open()
    yield built
    built.close()
    epoll.close()


def report_of(
    builder: KillBuilder, *, confirmed: bool = True, rule: str | None = "heavy"
) -> Report:
    """Return the report of a kill, now."""
    killer = UserspaceOomDaemon("systemd-oomd", signal="SIGKILL", rule=rule)
    parsed = ParsedKill(killer, original="Rule 'heavy' conditions met", path=CGROUP)
    now_ns = clock.boottime_ns()
    entry = JournalEntry(
        cursor="",
        boot_id=builder.boot_id,
        monotonic_us=now_ns // NS_PER_US,
        unix_ns=now_ns + clock.boot_to_unix_offset_ns(),
        unit=SYSTEMD_OOMD,
        pid=OOMD,
        executable="systemd-oomd",
        message=parsed.original,
    )
    return Report(parsed, entry, confirmed=confirmed)


def test_an_action_without_signals_killed_nothing(
    builder: KillBuilder, reader: SignalReader
) -> None:
    """A rule acts again on its emptied cgroup; the signals of another one do not matter."""
    reader.add(f"{CGROUP}/a")
    kill = builder.build_kill(report_of(builder))
    assert kill is not None
    assert kill.verified
    assert kill.tasks is not None
    reader.add("/other.slice")
    reader.add("…/deep", cut=True, sender=OTHER)
    assert builder.build_kill(report_of(builder)) is None


@pytest.mark.parametrize("already_read", [False, True])
def test_a_second_kill_of_a_process_that_still_exits_is_no_event(
    builder: KillBuilder, reader: SignalReader, *, already_read: bool
) -> None:
    """systemd 257 checks swap every 150 ms, and reports both; a process that is new is killed."""
    reader.add(CGROUP)
    if not already_read:
        reader.add(CGROUP)
    assert builder.build_kill(report_of(builder, rule=None)) is not None
    if already_read:
        reader.add(CGROUP)
    assert builder.build_kill(report_of(builder, rule=None)) is None
    reader.add(CGROUP)
    last = reader.signals[-1]
    reader.signals[-1] = replace(last, victim=replace(last.victim, start_boottime_ns=2))
    kill = builder.build_kill(report_of(builder, rule=None))
    assert kill is not None
    assert kill.verified


def test_a_second_report_without_all_signals_is_an_event(
    builder: KillBuilder, reader: SignalReader
) -> None:
    """A process whose signal was lost may have been killed."""
    reader.add(CGROUP)
    assert builder.build_kill(report_of(builder, rule=None)) is not None
    reader.lost = 1
    kill = builder.build_kill(report_of(builder, rule=None))
    assert kill is not None
    assert not kill.verified


@pytest.mark.parametrize("path", [None, "…/a/b"])
def test_a_kill_in_a_path_that_is_too_long_is_an_event(
    builder: KillBuilder, reader: SignalReader, path: str | None
) -> None:
    """A user can nest cgroups deeper than a record has space for."""
    reader.add(path, cut=True)
    kill = builder.build_kill(report_of(builder))
    assert kill is not None
    assert not kill.verified


def test_a_kill_whose_signals_were_lost_is_an_event(
    builder: KillBuilder, reader: SignalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So are others of that time; later actions without signals killed nothing."""
    reader.lost = 3
    for _ in range(2):
        kill = builder.build_kill(report_of(builder))
        assert kill is not None
        assert not kill.verified
    now_ns = clock.boottime_ns()
    monkeypatch.setattr(clock, "boottime_ns", lambda: now_ns + 31 * NS_PER_S)
    assert builder.build_kill(report_of(builder)) is None


def test_signals_that_are_too_many_to_keep_are_lost(
    builder: KillBuilder, reader: SignalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill of more processes than are remembered is an event."""
    monkeypatch.setattr(daemon_signals, "_MAX_SIGNALS", 1)
    reader.add(f"{CGROUP}/a")
    reader.add("/other.slice")
    last = reader.signals[-1]
    reader.signals[-1] = replace(last, victim=replace(last.victim, tgid=8))
    kill = builder.build_kill(report_of(builder))
    assert kill is not None
    assert not kill.verified


def test_a_message_later_than_its_signals_are_kept_is_an_event(
    builder: KillBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a time in which the agent did not run."""
    report = report_of(builder)
    now_ns = clock.boottime_ns()
    monkeypatch.setattr(clock, "boottime_ns", lambda: now_ns + 200 * NS_PER_S)
    kill = builder.build_kill(report)
    assert kill is not None
    assert not kill.verified


def test_a_kill_that_the_kernel_shows_is_an_event_whatever_its_cgroup_counts(
    builder: KillBuilder, reader: SignalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user who owns a cgroup can write ``user.oomd_kill``."""
    monkeypatch.setattr(
        "otel_oom.capture.userspace.verifier.KillVerifier.is_empty_kill", lambda *_: True
    )
    reader.add(CGROUP)
    kill = builder.build_kill(report_of(builder))
    assert kill is not None
    assert kill.verified


@pytest.mark.parametrize(
    ("request_ns", "unit", "requester"),
    [
        (-1, EARLYOOM, EARLYOOM),
        (-11 * NS_PER_S, EARLYOOM, None),
        (1, EARLYOOM, None),
        (-1, "", None),
    ],
    ids=["just before", "long before", "after", "by another process"],
)
def test_a_request_by_sysrq_names_its_daemon(
    builder: KillBuilder, reader: SignalReader, request_ns: int, unit: str, requester: str | None
) -> None:
    assert builder.signals.find_requester(KILL) is None
    reader.request = (KILL.boottime_ns + request_ns, unit)
    assert builder.signals.find_requester(KILL) == requester
