"""Who would be killed next, of processes that a test's user may not make: those that are spared."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.commands.doctor.next_victim import ProcessTable

GIB = 1 << 30
STATUS = "Name:\t{name}\nVmRSS:\t{rss} kB\nVmPTE:\t4 kB\nVmSwap:\t0 kB\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc as the kernel shows it: init, one that is spared, kernel threads, and some others."""
    for pid, name, rss, score, adjusted in (
        (1, "init", 90_000, 0, 0),
        (2, "kthreadd", None, 0, 0),
        (30, "sshd", 8_000, 0, -1000),
        (31, "udevd", 12_000, 0, -1000),
        (40, "small", 10_000, 666, 0),
        (41, "large", 20_000, 666, 0),
        (42, "largest", 900_000, 690, 0),
        (43, "adjusted", 10_000, 700, 100),
    ):
        folder = tmp_path / str(pid)
        folder.mkdir()
        text = f"Name:\t{name}\n" if rss is None else STATUS.format(name=name, rss=rss)
        (folder / "status").write_text(text, encoding="ascii")
        (folder / "oom_score").write_text(f"{score}\n", encoding="ascii")
        (folder / "oom_score_adj").write_text(f"{adjusted}\n", encoding="ascii")
        (folder / "cgroup").write_text("0::/\n", encoding="ascii")
    (tmp_path / "44").mkdir()
    (tmp_path / "self").mkdir()
    return tmp_path


def test_what_is_spared_is_told_apart_the_largest_first(proc: Path) -> None:
    """By its oom_score_adj; with how many there are."""
    spared, count = ProcessTable(proc).spared(1)
    assert ([one.comm for one in spared], count) == (["udevd"], 2)
    assert spared[0].score is None


def test_the_first_are_those_that_the_kernel_may_kill(proc: Path) -> None:
    """Not init, no kernel thread, none that is spared or gone; ties by what they hold."""
    found = ProcessTable(proc).next(2 * GIB, 9)
    assert [one.comm for one in found] == ["largest", "adjusted", "large", "small"]
    assert found[0].held == 900_004 << 10


def test_what_an_adjustment_counts_for_is_a_matter_of_what_there_is(proc: Path) -> None:
    """A tenth of a large host is more than any of them holds; within a cgroup it may be less."""
    assert [one.comm for one in ProcessTable(proc).next(64 * GIB, 1)] == ["adjusted"]
    of_cgroup = ProcessTable(proc).next_of([41, 43], GIB >> 6)
    assert of_cgroup
    assert of_cgroup.comm == "large"


def test_where_all_may_not_be_killed_there_is_none(proc: Path) -> None:
    """A cgroup of init and of those that are spared."""
    assert ProcessTable(proc).next_of([1, 30, 31], GIB) is None
