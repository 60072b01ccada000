"""The page of one event: content, order, and escaping."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from otel_oom.commands.console.elements import render_page
from otel_oom.commands.console.output import new_console, render
from otel_oom.commands.history.entry import Entry
from otel_oom.commands.history.page import describe_event
from otel_oom.commands.history.page.tasks import parse_logfmt
from otel_oom.enrich.event import (
    enrich_dropped_events,
    enrich_kill,
    enrich_missed_kills,
    enrich_no_victim,
    enrich_panic,
)
from otel_oom.enrich.types import EnrichedKill, StillAlive, VictimOutcome
from otel_oom.model.events import OomKill
from otel_oom.model.loss import MissedKills
from otel_oom.model.mappings import VictimMapping, VictimMappings
from otel_oom.model.snapshot import HostMemory
from otel_oom.model.types import Memcg, MemcgUsage
from otel_oom.model.usage import UsageHistory
from otel_oom.otlp.encode import encode_log
from otel_oom.otlp.event import build_event
from otel_oom.otlp.snapshot_attributes import format_tasks
from tests.testlib.samples.events import (
    CONTAINER_ID,
    DECISION,
    DROPPED,
    EXIT,
    HOST,
    KILL,
    NO_VICTIM,
    PANIC,
    REAPER_STEPS,
    SNAPSHOT,
    sample_enriched_kill,
    sample_kill,
)
from tests.testlib.samples.history import entry, log_entry
from tests.testlib.samples.usage import LIMIT, leak, sample_series
from tests.testlib.samples.usage import enriched_kill as enriched_usage_kill

HOSTILE = 'a\x1b[2J"\\\n\u202e= [red]b[/red]'


def show(*group: Entry, width: int = 100, colour: bool = False) -> str:
    return render(render_page(describe_event(group[-1], group)), new_console(width, colour=colour))


def page(
    one: EnrichedKill, width: int = 100, status: str = "delivered", *, colour: bool = False
) -> str:
    return show(entry(one, log_status=status, span_status=status), width=width, colour=colour)


def section(text: str, heading: str) -> str:
    _, _, rest = text.partition(f"\n{heading}\n")
    assert rest, text
    return re.split(r"\n\n(?=\S)", rest)[0]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_sections_are_in_order() -> None:
    one = sample_enriched_kill()
    text = page(one)
    begin = flat(text.partition("Victim")[0])
    assert begin.endswith(flat(str(build_event(one).to_log_record().log_record.body)))
    headings = [line for line in text.splitlines() if re.match(r"[A-Z]", line)]
    order = [
        *("OOM kill, 2023-11-14T22:13:20Z", "Victim", "Limit"),
        *("Top memory consumers", "Allocation", "Timeline"),
        *("Kernel settings", "Advice", "Identifiers"),
    ]
    assert [line for line in headings if line in order] == order


def test_the_victim() -> None:
    what = section(page(sample_enriched_kill()), "Victim")
    assert f"container    {CONTAINER_ID[:12]}" in what
    assert "java, pid 4711, pid 1 in its own namespace" in flat(what)
    assert "user 1000, oom_score_adj -5" in flat(what)
    assert "53.0 MiB resident (50.0 MiB anonymous, 3.0 MiB of files)" in flat(what)
    assert f"/docker/{CONTAINER_ID}" in what
    assert "host         node-1" in what
    assert "hunter2" not in what


def test_the_limit_has_bars_for_its_usage() -> None:
    limit = section(page(sample_enriched_kill()), "Limit")
    assert "a cgroup above the victim's" in limit
    bars = {line.split("▕")[0].strip(): line for line in limit.splitlines() if "▕" in line}
    assert "64.0 MiB of 64.0 MiB (100%)" in bars["usage"]
    assert bars["usage"].count("█") == 40
    assert bars["anonymous"].count("█") == 40 * 58 // 64
    assert "4.0 MiB" in bars["of files"]
    assert "read 0.8 ms after the kill" in limit
    assert "5.0 GiB of 8.0 GiB available" in bars["host"]
    assert "limit hit 120 times, 1 killed" in limit
    assert "some tasks stalled 12.5 % of the time, all tasks 9.25 %" in flat(limit)
    assert "victim's own 64.0 MiB of its own limit of 64.0 MiB" in flat(limit)


def test_the_limit_of_the_host_has_bars_for_its_memory() -> None:
    decision = replace(DECISION, constraint="none", memcg=None, memcg_usage=None)
    host = HostMemory(
        {"total": 8 << 30, "available": 0, "hugetlb": 6 << 30}
        | {"swap_total": 1 << 30, "swap_free": 0}
    )
    one = enrich_kill(
        sample_kill(decision=decision), replace(SNAPSHOT, host=host), VictimOutcome(EXIT), 0, HOST
    )
    limit = section(page(one), "Limit")
    assert "the host: out of memory" in limit
    assert re.search(r"huge pages +▕█{30} +▏ 6\.0 GiB", limit)
    assert "1.0 GiB of 1.0 GiB (100%)" in limit


def test_a_limit_that_only_the_stack_shows() -> None:
    one = replace(
        sample_enriched_kill(decision=None), snapshot=replace(SNAPSHOT, limit_cgroup=None)
    )
    limit = section(page(one), "Limit")
    assert "an unknown cgroup" in limit
    assert "usage" not in limit


def test_the_victim_is_marked_among_the_tasks() -> None:
    who = section(page(sample_enriched_kill()), "Top memory consumers")
    rows = [line.split() for line in who.splitlines()]
    (chosen,) = (row for row in rows if row[0] == "▶")
    assert chosen[1:8] == ["4711", "java", "53.0", "MiB", "-", "13000", "-5"]
    (other,) = (row for row in rows if "sidecar" in row[:2])
    assert other[0] == "99"
    assert other[-1] == "/docker/sidecar"
    assert "1.5 ms after the kill" in who
    assert "Protected by oom_score_adj -1000" in who


def test_tasks_are_parsed_as_they_were_formatted() -> None:
    ranked = sample_enriched_kill().ranked_tasks
    hostile = replace(ranked[0], task=replace(ranked[0].task, comm=HOSTILE))
    (task,) = parse_logfmt(format_tasks([hostile]))
    assert task["comm"] == HOSTILE
    assert task["pid"] == str(ranked[0].task.tgid)
    assert task["memcg"] == ranked[0].task.memcg


def test_the_mappings() -> None:
    largest = (
        VictimMapping("anonymous", 300 << 20, 12, HOSTILE),
        VictimMapping("heap", 64 << 20, 1),
    )
    kill = replace(KILL, mappings=VictimMappings(largest, 3015, 3002))
    whole = page(enrich_kill(kill, SNAPSHOT, VictimOutcome(EXIT), KILL.time_unix_ns, HOST))
    lines = section(whole, "Mappings of the victim").splitlines()
    caption = "3015 mappings. SIZE is address space, not resident memory. 3002 more were not read."
    assert flat(" ".join(lines)).startswith(caption)
    rows = [re.split(r"  +", line.strip()) for line in lines if "MiB" in line]
    assert [row[:3] for row in rows] == [
        ["anonymous", "300.0 MiB", "12"],
        ["heap", "64.0 MiB", "1"],
    ]
    assert rows[1][3] == "-"
    assert "\x1b" not in whole
    assert "Mappings" not in page(sample_enriched_kill())


def test_the_allocation() -> None:
    where = section(page(sample_enriched_kill()), "Allocation")
    assert "sidecar, pid 99, thread 100, not the victim, in /docker" in flat(where)
    assert "shared memory or tmpfs, by write(), 4.0 KiB, GFP_KERNEL" in where
    whole = page(sample_enriched_kill())
    (first,) = (line for line in whole.splitlines() if "mark_oom_victim+0x1" in line)
    assert "0x1234" in first
    for frame in KILL.stack:
        assert frame in whole


def test_the_timeline_is_in_order_with_distances_from_the_kill() -> None:
    one = enrich_kill(
        KILL, SNAPSHOT, VictimOutcome(EXIT, REAPER_STEPS), KILL.time_unix_ns + 150_000_000, HOST
    )
    lines = [line.strip() for line in section(page(one), "Timeline").splitlines()]
    assert [re.split(r"  +", line) for line in lines] == [
        ["-600.000 ms", "victim started"],
        ["0.000 ms", "kernel chose the victim and sent SIGKILL (2023-11-14T22:13:20.000000Z)"],
        ["+0.800 ms", "agent read the statistics of cgroup and host"],
        ["+1.500 ms", "agent listed the processes"],
        ["+100.000 ms", "oom_reaper started, 50.0 MiB left"],
        ["+150.000 ms", "event stored on disk"],
        ["+200.000 ms", "oom_reaper finished, 1.0 MiB left"],
        ["+250.000 ms", "victim exited, by signal 9"],
        ["log", "accepted by the backend"],
        ["span", "accepted by the backend"],
    ]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("queued", "queued: see otel-oom queue"),
        ("pending", "pending: "),
        (
            "rejected by http://x: HTTP 400: no\x1b[31m",
            "rejected by http://x: HTTP 400: no\\x1b[31m",
        ),
    ],
)
def test_the_delivery_status(status: str, text: str) -> None:
    timeline = section(page(sample_enriched_kill(), status=status), "Timeline")
    assert timeline.count(text) == 2


def test_a_victim_that_did_not_exit() -> None:
    alive = enrich_kill(KILL, SNAPSHOT, VictimOutcome(alive=StillAlive(11 * 10**9, "D")), 0, HOST)
    assert re.search(r"\+10\.0 s +victim still alive, in state D", page(alive))
    assert "no exit of the victim recorded yet" in page(sample_enriched_kill(exit_=None))
    assert "no exit of the victim recorded yet" not in page(alive)


def test_the_settings_and_the_advice() -> None:
    one = sample_enriched_kill()
    text = page(one)
    assert "vm.oom_kill_allocating_task = 0: it kills the one with the highest oom_score" in text
    advice = (build_event(one).to_log_record().log_record.attributes or {}).get("oom.advice")
    assert advice
    shown = flat(section(text, "Advice"))
    assert shown.startswith(f"{advice} cause single_process evidence oom.limit.memcg.limit=")
    assert shown.endswith("oom.victim.memory.page_tables=1048576")
    assert KILL.uid in section(text, "Identifiers")
    assert f"{KILL.trace_id:032x}" in section(text, "Identifiers")


def test_an_unknown_value_has_no_line() -> None:
    bare = sample_enriched_kill(
        decision=None,
        memory=None,
        memcg=None,
        trigger=None,
        trigger_memcg=None,
        stack=(),
        user_stack=(),
    )
    bare = replace(bare, snapshot=replace(SNAPSHOT, process_found=False), ranked_tasks=())
    text = page(bare)
    assert "None" not in text
    assert "Allocation" not in text
    assert "Top memory consumers" not in text


def test_the_victims_of_a_group() -> None:
    first = entry(sample_enriched_kill(), 1)
    other = sample_kill(5, incident=KILL.uid, memcg=Memcg(43, "/docker/other"))
    second = entry(enrich_kill(other, SNAPSHOT, VictimOutcome(), 0, HOST), 2)
    text = show(first, second)
    group = section(text, "Killed together (memory.oom.group): 2")
    rows = [line.split() for line in group.splitlines()]
    assert [row[1] for row in rows if row[0] == "▶"] == [other.uid[:8]]
    assert KILL.uid[:8] in rows[1]
    assert "/docker/other" in group


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("colour", [False, True])
def test_hostile_names_are_escaped_and_lines_fit(
    width: int,
    colour: bool,  # noqa: FBT001
) -> None:
    victim = replace(KILL.victim, comm=HOSTILE, executable=f"/x/{HOSTILE}" * 20)
    trigger = replace(KILL.trigger, comm=HOSTILE) if KILL.trigger else None
    memcg = Memcg(42, f"/{HOSTILE}" * 40)
    decision = replace(DECISION, memcg=memcg, message=HOSTILE)
    one = sample_enriched_kill(victim=victim, trigger=trigger, memcg=memcg, decision=decision)
    one = replace(one, resource={"service.name": HOSTILE * 30, "host.name": HOSTILE})
    text = page(one, width, colour=colour)
    plain = re.sub(r"\x1b\[[\d;]+m", "", text) if colour else text
    lines = plain.split("\n")
    assert all(line.isprintable() for line in lines)
    assert max(map(cell_len, lines)) <= width
    assert "a\\x1b[2J" in plain
    assert ("\x1b[1" in text) is colour


@pytest.mark.parametrize(
    "limits", [None, MemcgUsage(None, None, None, None), MemcgUsage(0, 0, 0, 0)]
)
def test_any_limits_have_bars(limits: MemcgUsage | None) -> None:
    text = page(sample_enriched_kill(decision=replace(DECISION, memcg_usage=limits)))
    assert "Limit" in text


def test_events_without_a_victim() -> None:
    missed = MissedKills(
        boot_id="b", boottime_ns=1, time_unix_ns=10**18, count=3, kernel_count=9, reason="unknown"
    )
    for log, title in (
        (encode_log(enrich_no_victim(NO_VICTIM, 0, HOST)), "no killable process"),
        (encode_log(enrich_panic(PANIC, 0, HOST)), "Kernel panic"),
        (encode_log(enrich_missed_kills(missed, 0, HOST)), "Missed"),
        (encode_log(enrich_dropped_events(DROPPED, 0, HOST, None)), "Dropped"),
    ):
        made = log_entry(log)
        text = show(made)
        assert title in text.splitlines()[0]
        assert flat(made.event.body) in flat(text)
        assert "Victim" not in text
        assert "None" not in text


@pytest.mark.parametrize(
    ("kill", "origin"),
    [
        (replace(KILL, report_uid="4c826cbc-af5c"), "that of 4c826cbc-af5c"),
        (replace(KILL, report_dropped=True), "dropped at the size limit of the store"),
    ],
)
def test_a_report_that_is_elsewhere(kill: OomKill, origin: str) -> None:
    enriched = enrich_kill(kill, SNAPSHOT, VictimOutcome(), 0, HOST)
    assert origin in flat(page(enriched))


def test_the_curve_rises_to_the_limit() -> None:
    """2 MiB a second pass each row of blocks, a fifth of 128 MiB, in 12.8 seconds."""
    series = sample_series(leak, count=13, created_s=-64)
    text = section(page(enriched_usage_kill(UsageHistory(limit=series))), "Before the kill")
    lines = text.splitlines()
    assert "leak: 2.0 MiB a second for 64 s" in lines[0]
    begin = next(n for n, line in enumerate(lines) if "128.0 MiB, the limit" in line)
    rows = [line.strip() for line in lines[begin + 1 : begin + 6]]
    lengths = [len(row) for row in rows]
    columns = 42
    for number, length in enumerate(lengths):
        assert length == pytest.approx(columns * (number + 1) / 5, abs=2)
    assert all(row[-1] == "█" for row in rows)
    assert lines[begin + 6].split() == ["-62.0", "s", "kill"]


def test_the_timeline_has_the_approach() -> None:
    one = page(enriched_usage_kill(UsageHistory(limit=sample_series(leak))))
    text = section(one, "Timeline")
    for words in ("-32.0 s usage rose to 50 %", "-16.0 s usage rose to 75 % of the limit"):
        assert words in flat(text)


def test_an_unknown_growth_has_its_reason() -> None:
    history = UsageHistory(limit=sample_series(lambda _: 2 * LIMIT))
    text = section(page(enriched_usage_kill(history)), "Before the kill")
    assert "unknown: the usage was above the limit before" in flat(text)
