"""Kernel messages behind a prefix of no known format: what all lines share is taken off."""

from __future__ import annotations

import time

import pytest

from otel_oom.model.types import UNVERIFIED
from otel_oom.model.units import NS_PER_S
from tests.testlib.samples.log_lines import KILLED, REPORT
from tests.testlib.samples.replay_logs import KILL, replay, replay_kills

PREFIXES = {
    "numbers": "{n:5} ",
    "a table": "| {n} | ",
    "a quotation": "> > ",
    "a monitor": "{n} WARN  oom-monitor db1 ",
    "brackets": "<<{n}>> [db1] ",
    "kubectl": "Warning  OOMKilling  {n}s  kernel-monitor  ",
    "other script": "警告 {n} · ",
    "a date of its own": "2023/11/14 21:00:{n:02} db1 | ",
}


def with_prefix(prefix: str, texts: tuple[str, ...]) -> list[str]:
    return [prefix.format(n=8 + number) + text for number, text in enumerate(texts)]


@pytest.mark.parametrize("name", PREFIXES)
def test_a_report_behind_a_prefix_is_that_of_bare_text(name: str) -> None:
    (bare,) = replay_kills(list(KILL))
    (kill,) = replay_kills(with_prefix(PREFIXES[name], KILL))
    assert (kill.victim, kill.memory, kill.trigger, kill.decision, kill.stack) == (
        *(bare.victim, bare.memory, bare.trigger, bare.decision, bare.stack),
    )
    assert kill.tasks is not None
    assert bare.tasks is not None
    assert kill.tasks.largest == bare.tasks.largest
    assert kill.original == bare.original
    assert kill.provenance is not None
    assert kill.provenance.source == UNVERIFIED


def test_a_date_in_the_prefix_is_the_time() -> None:
    (kill,) = replay_kills(with_prefix("2023/11/14 21:00:{n:02} db1 | ", KILL))
    second = 8 + len(KILL) - 1
    local = time.localtime(kill.time_unix_ns // NS_PER_S)
    assert local[:6] == (2023, 11, 14, 21, 0, second)


def test_first_and_last_line_alone_share_their_prefix() -> None:
    (kill,) = replay_kills(with_prefix("| {n} | ", (REPORT[0], KILLED)))
    assert kill.decision is not None
    assert kill.decision.message == "Memory cgroup out of memory"
    assert kill.decision.order == 0


@pytest.mark.parametrize(
    "prefix",
    [
        "app: ",
        "INFO app: ",
        "INFO app[12]: ",
        "Nov 14 21:00:00 db1 app ",
        "Nov 14 21:00:00 db1 app: ",
        "2023-11-14T21:00:00Z db1 app[1]: x ",
    ],
)
def test_a_programs_own_line_is_no_kill(prefix: str) -> None:
    assert replay(with_prefix(prefix, KILL)) == []


def test_a_directory_has_no_such_file() -> None:
    assert replay(with_prefix("| {n} | ", KILL), is_named=False) == []


def test_a_process_named_like_a_prefix_moves_no_line() -> None:
    hostile = KILLED.replace("(tail)", "(| 1 | x)")
    (kill,) = replay_kills([*with_prefix("| {n} | ", (*REPORT, hostile))])
    assert kill.victim.comm == "| 1 | x"
