"""Scores of processes, also of protected ones, which a test can't always start."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.commands.doctor.next_victim import ProcessTable

GIB = 1 << 30
STATUS = "Name:\t{name}\nVmRSS:\t{rss} kB\nVmPTE:\t4 kB\nVmSwap:\t0 kB\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
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


def test_the_largest_protected_processes_come_first(proc: Path) -> None:
    protected, count = ProcessTable(proc).protected(1)
    assert ([process.comm for process in protected], count) == (["udevd"], 2)
    assert protected[0].oom_score is None


def test_only_killable_processes_are_next_victims(proc: Path) -> None:
    victims = ProcessTable(proc).first_victims(2 * GIB, 9)
    assert [victim.comm for victim in victims] == ["largest", "adjusted", "large", "small"]
    assert victims[0].total_bytes == 900_004 << 10


def test_an_adjustment_counts_in_proportion_to_the_capacity(proc: Path) -> None:
    (victim,) = ProcessTable(proc).first_victims(64 * GIB, 1)
    assert victim.comm == "adjusted"
    of_cgroup = ProcessTable(proc).first_victim_of([41, 43], GIB >> 6)
    assert of_cgroup
    assert of_cgroup.comm == "large"


def test_protected_processes_alone_have_no_victim(proc: Path) -> None:
    assert ProcessTable(proc).first_victim_of([1, 30, 31], GIB) is None
