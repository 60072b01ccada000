"""Recorded kills compared with the kernel log: which of its kills are missing."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from otel_oom.agent.reconciler import missing_kills
from otel_oom.linux.kernel_log.record_number import number_syslog_record
from otel_oom.linux.kill_count import read_kill_count
from otel_oom.model.events import OomKill
from otel_oom.model.types import Capture
from otel_oom.store.types import StoredKill
from tests.testlib.samples.events import KILL

S = 1_000_000_000


def logged_kill(pid: int, at_s: float, comm: str = "java", line: int = 0) -> OomKill:
    """Return a kill as in the log: with a thread's id, and a time of the log's own clock."""
    victim = replace(KILL.victim, tgid=pid, tid=pid, comm=comm, start_boottime_ns=None)
    capture = Capture("kmsg", "/dev/kmsg", cpu=None, sequence=line or pid)
    return replace(KILL, boottime_ns=int(at_s * S), victim=victim, capture=capture)


def stored_kill(
    pid: int, at_s: float, comm: str = "java", tid: int | None = None, line: int | None = None
) -> StoredKill:
    """Return a kill in the store."""
    return StoredKill(pid, tid or pid, comm, int(at_s * S), line)


def pids(kills: list[OomKill]) -> list[int]:
    """Return the process ids of kills."""
    return [kill.victim.tgid or 0 for kill in kills]


def test_a_stored_kill_is_not_missing() -> None:
    """It is matched by process and name, although the clocks differ."""
    log = [logged_kill(1, 10.2), logged_kill(2, 11.2), logged_kill(3, 12.2)]
    assert pids(missing_kills(log, [stored_kill(1, 10), stored_kill(3, 12)])) == [2]


def test_the_log_names_a_thread() -> None:
    """The mark has process and thread, and the log may have either."""
    assert not missing_kills([logged_kill(7, 10)], [stored_kill(1, 10, tid=7)])
    assert not missing_kills([logged_kill(1, 10)], [stored_kill(1, 10, tid=7)])


def test_each_stored_kill_matches_one_line() -> None:
    """Of two kills with one number and name the nearer one matches."""
    log = [logged_kill(1, 10, line=5), logged_kill(1, 50, line=6)]
    (new,) = missing_kills(log, [stored_kill(1, 49)])
    assert new.capture.sequence == 5


def test_the_nearest_pairs_of_all_match() -> None:
    """The first of a row does not take the match of the second."""
    log = [logged_kill(1, 40, line=5), logged_kill(1, 50, line=6), logged_kill(1, 60, line=7)]
    (new,) = missing_kills(log, [stored_kill(1, 59), stored_kill(1, 49)])
    assert new.capture.sequence == 5


def test_a_number_with_another_name_is_another_process() -> None:
    assert pids(missing_kills([logged_kill(1, 10, "java")], [stored_kill(1, 10, "python")])) == [1]


def test_a_recovered_kill_matches_by_the_number_of_its_line() -> None:
    """Whatever its time."""
    assert not missing_kills([logged_kill(1, 10, line=5)], [stored_kill(1, 99, line=5)])
    assert pids(missing_kills([logged_kill(1, 10, line=5)], [stored_kill(1, 10, line=6)])) == [1]


def test_a_line_of_another_numbering_is_matched_by_its_kill() -> None:
    """syslog(2) numbers no lines, so an agent that moves into a pod has other numbers."""
    by_syslog = number_syslog_record(10_000_000, 0)
    log = [logged_kill(1, 10, line=by_syslog), logged_kill(2, 20, line=by_syslog + 256)]
    assert pids(missing_kills(log, [stored_kill(1, 10, line=5)])) == [2]
    # A number of the same kind that is not in the log is of an overwritten line.
    other = number_syslog_record(9_000_000, 0)
    assert pids(missing_kills(log, [stored_kill(1, 9, line=other)])) == [1, 2]


def test_read_kill_count(tmp_path: Path) -> None:
    """Only the line with this exact name counts; an older kernel has none."""
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 3\noom_kill_x 9\noom_kill 12\nswap_ra 0\n", encoding="ascii")
    assert read_kill_count(vmstat) == 12
    vmstat.write_text("nr_free_pages 3\n", encoding="ascii")
    assert read_kill_count(vmstat) is None


def test_a_kill_of_the_log_has_one_uid() -> None:
    """Although its time is computed at each reading."""
    one, other = logged_kill(1, 10, line=5), logged_kill(1, 11, line=5)
    assert one.uid == other.uid
    assert one.uid != logged_kill(1, 10, line=6).uid
