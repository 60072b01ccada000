"""Lines that the pager of journalctl cut at the width of a terminal, as people copy them."""

from __future__ import annotations

import pytest

from otel_oom.model.events import OomKill, UserspaceKill
from tests.testlib.samples.log_lines import KILLED
from tests.testlib.samples.replay_logs import KILL, replay, syslog_lines

OOMD = (
    "Nov 14 21:00:00 db1 systemd-oomd[7]: Killed /system.slice/web.service due to memory pressure "
    "for /system.slice being 80.12% > 50.00% for > 20s with reclaim activity"
)
MARKED = (
    "Nov 14 21:00:00 db1 systemd-oomd[7]: Marked /system.slice/web.service for killing due to swap "
    "used (7800000000) / total (8000000000) being more than 90.00%"
)
EARLYOOM = (
    'Nov 14 21:00:00 db1 earlyoom[7]: sending SIGTERM to process 4711 uid 1000 "web": oom_score '
    '900, oom_score_adj 0, VmRSS 812 MiB, cmdline "web"'
)
ANNOUNCED = "Out of memory: Kill process 4711 (web) score 900 or sacrifice child"


def cut(lines: list[str], width: int) -> list[str]:
    """Return the lines as less -S shows them in a terminal."""
    return [line if len(line) <= width else f"{line[: width - 1]}>" for line in lines]


@pytest.mark.parametrize("width", range(90, 220, 3))
def test_a_kill_of_the_kernel_is_found_at_each_width(width: int) -> None:
    """Its sizes are those of the whole line, or none."""
    (kill,) = replay(cut(syslog_lines(KILL), width))
    assert isinstance(kill, OomKill)
    assert kill.victim.tgid == 5356
    assert kill.victim.comm == "tail"
    (whole,) = replay(syslog_lines(KILL))
    assert isinstance(whole, OomKill)
    assert whole.memory is not None
    if kill.memory is not None:
        sizes = kill.memory, whole.memory
        assert len({(each.total_vm, each.anon, each.file, each.shmem) for each in sizes}) == 1


@pytest.mark.parametrize(
    ("width", "comm"), [(82, "tai…"), (83, "tail…"), (84, "tail"), (86, "tail"), (92, "tail")]
)
def test_a_name_that_is_cut_ends_with_an_ellipsis(width: int, comm: str) -> None:
    (kill,) = replay(cut(syslog_lines([KILLED]), width))
    assert isinstance(kill, OomKill)
    assert (kill.victim.tgid, kill.victim.comm, kill.memory) == (5356, comm, None)


def test_an_announcement_and_its_kill_are_one() -> None:
    killed = "Killed process 4711 (web) total-vm:18804kB, anon-rss:16000kB, file-rss:1532kB"
    for width in (80, 90, 100):
        (kill,) = replay(cut(syslog_lines([ANNOUNCED, killed]), width))
        assert isinstance(kill, OomKill)
        assert kill.victim.tgid == 4711


@pytest.mark.parametrize(
    ("line", "width", "expected"),
    [
        (OOMD, 79, ("/system.slice/web.service", None, True)),
        (OOMD, 100, ("/system.slice/web.service", "memory_pressure", True)),
        (MARKED, 120, ("/system.slice/web.service", "swap_used", False)),
        (EARLYOOM, 85, ("web", "memory_available", False)),
        (EARLYOOM, 78, ("we…", "memory_available", False)),
    ],
)
def test_a_kill_of_a_daemon_is_found(
    line: str, width: int, expected: tuple[str, str | None, bool]
) -> None:
    (kill,) = replay(cut([line], width))
    assert isinstance(kill, UserspaceKill)
    target = kill.victim.comm if kill.victim else kill.memcg and kill.memcg.path
    assert (target, kill.killer.reason, kill.completed) == expected


@pytest.mark.parametrize(
    "line",
    [
        "Nov 14 21:00:00 db1 kernel: Killed process>",
        "Nov 14 21:00:00 db1 kernel: Killed process 4711 (web>",
        "Nov 14 21:00:00 db1 kernel: Killed process 4711 (web) by <admin>",
        "Nov 14 21:00:00 db1 kernel: Out of memory: Killed process 47>",
        "Nov 14 21:00:00 db1 kernel: <TASK>",
        "Nov 14 21:00:00 db1 bot[1]: Out of memory: Killed process 4711 (web) total-v>",
        "Nov 14 21:00:00 db1 systemd-oomd[7]: Killed /system.slice/we>",
        "Nov 14 21:00:00 db1 earlyoom[7]: sending SIGTERM to process 47>",
        "Nov 14 21:00:00 db1 earlyoom[7]: mem avail: 410 of 7721 MiB ( 5.31%), swap>",
    ],
)
def test_a_line_that_names_no_victim_is_no_kill(line: str) -> None:
    assert replay([line]) == []


@pytest.mark.parametrize(
    "line",
    [
        EARLYOOM.partition("db1 ")[2],
        f"21:00:00 {EARLYOOM.partition('db1 ')[2]}",
        f"21:00:00 db1 {OOMD.partition('db1 ')[2]}",
        "[kswapd0] lowmemorykiller: Killing 'web' (4711) (tgid 4711), adj 906,",
        "[  100.000000] [kswapd0] lowmemorykiller: Killing 'web' (4711) (tgid 4711), adj 906,",
    ],
)
def test_a_message_whose_time_is_cut_is_found(line: str) -> None:
    (kill,) = replay([line])
    assert isinstance(kill, UserspaceKill)


def test_a_cut_message_of_a_dry_run_is_no_kill() -> None:
    dry = "Nov 14 21:00:00 db1 earlyoom[7]: dryrun, not actually sending any signal"
    assert replay([*cut([EARLYOOM], 85), dry]) == []
    assert len(replay([*cut([EARLYOOM, EARLYOOM.replace("4711", "4712")], 85), dry])) == 1
