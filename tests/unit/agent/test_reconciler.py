"""What was told against what the kernel counted: which of the log's kills are new."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from otel_oom.agent.reconciler import missing_kills, read_kill_count
from otel_oom.model.events import OomKill
from otel_oom.model.types import Capture
from otel_oom.store.types import StoredKill
from tests.testlib.samples.events import KILL

S = 1_000_000_000


def logged(pid: int, at_s: float, comm: str = "java", line: int = 0) -> OomKill:
    """A kill as the log tells it: a thread's id, and a time of the log's own clock."""
    victim = replace(KILL.victim, tgid=pid, tid=pid, comm=comm, start_boottime_ns=None)
    capture = Capture("kmsg", "/dev/kmsg", cpu=None, sequence=line or pid)
    return replace(KILL, boottime_ns=int(at_s * S), victim=victim, capture=capture)


def stored(
    pid: int, at_s: float, comm: str = "java", tid: int | None = None, line: int | None = None
) -> StoredKill:
    """A kill in the store."""
    return StoredKill(pid, tid or pid, comm, int(at_s * S), line)


def pids(kills: list[OomKill]) -> list[int]:
    """Whose kills they are."""
    return [kill.victim.tgid or 0 for kill in kills]


def test_what_is_stored_is_not_new() -> None:
    """A kill is known again by its process and name, though the clocks differ."""
    log = [logged(1, 10.2), logged(2, 11.2), logged(3, 12.2)]
    assert pids(missing_kills(log, [stored(1, 10), stored(3, 12)])) == [2]


def test_the_log_names_a_thread() -> None:
    """The mark's process and its thread are both numbers that the log may have."""
    assert not missing_kills([logged(7, 10)], [stored(1, 10, tid=7)])
    assert not missing_kills([logged(1, 10)], [stored(1, 10, tid=7)])


def test_each_stored_kill_is_one_logged() -> None:
    """Of two kills of one number and name the nearer one is the stored one."""
    log = [logged(1, 10, line=5), logged(1, 50, line=6)]
    (new,) = missing_kills(log, [stored(1, 49)])
    assert new.capture.sequence == 5


def test_nearer_is_judged_over_all() -> None:
    """The first of a row does not take what belongs to the second."""
    log = [logged(1, 40, line=5), logged(1, 50, line=6), logged(1, 60, line=7)]
    (new,) = missing_kills(log, [stored(1, 59), stored(1, 49)])
    assert new.capture.sequence == 5


def test_a_number_used_again_under_another_name_is_another() -> None:
    """A process's number alone does not make it the same."""
    assert pids(missing_kills([logged(1, 10, "java")], [stored(1, 10, "python")])) == [1]


def test_a_line_is_itself() -> None:
    """A kill that came from the log is known by the number of its line, whatever its time."""
    assert not missing_kills([logged(1, 10, line=5)], [stored(1, 99, line=5)])
    assert pids(missing_kills([logged(1, 10, line=5)], [stored(1, 10, line=6)])) == [1]


def test_the_kernels_counter_is_read(tmp_path: Path) -> None:
    """Only the line of that very name counts, and an older kernel has none."""
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 3\noom_kill_x 9\noom_kill 12\nswap_ra 0\n", encoding="ascii")
    assert read_kill_count(vmstat) == 12
    vmstat.write_text("nr_free_pages 3\n", encoding="ascii")
    assert read_kill_count(vmstat) is None


def test_a_kill_of_the_log_keeps_its_uid_at_every_reading() -> None:
    """The log's clock can't be read, so a line's time comes out different each time."""
    one, other = logged(1, 10, line=5), logged(1, 11, line=5)
    assert one.uid == other.uid
    assert one.uid != logged(1, 10, line=6).uid
