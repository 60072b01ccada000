"""When a log that nothing can wait for is read."""

from __future__ import annotations

import select
from pathlib import Path

from otel_oom.capture.kmsg.kill_count_watch import KillCountWatch


def test_the_log_is_read_when_the_count_rises_and_once_more(tmp_path: Path) -> None:
    """A kill is counted before its line is printed."""
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 1\noom_kill 7\n", encoding="ascii")
    watch = KillCountWatch(vmstat)
    assert not watch.has_news()
    vmstat.write_text("nr_free_pages 1\noom_kill 8\n", encoding="ascii")
    assert [watch.has_news() for _ in range(3)] == [True, True, False]
    watch.close()


def test_without_a_count_there_may_always_be_news(tmp_path: Path) -> None:
    """Before Linux 4.13."""
    (tmp_path / "vmstat").write_text("nr_free_pages 1\n", encoding="ascii")
    watch = KillCountWatch(tmp_path / "vmstat")
    assert [watch.has_news() for _ in range(2)] == [True, True]
    watch.close()


def test_its_descriptor_wakes_the_caller_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "vmstat").write_text("oom_kill 7\n", encoding="ascii")
    watch = KillCountWatch(tmp_path / "vmstat")
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    for _ in range(3):
        assert poll.poll(10_000)
        watch.has_news()
    watch.close()
