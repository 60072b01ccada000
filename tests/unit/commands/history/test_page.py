"""The page of one kill: what it says, in which order, and that nothing in it does harm."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from otel_oom.commands.console.terminal import Terminal, cells
from otel_oom.commands.history import page
from otel_oom.commands.history.page.candidates import read
from otel_oom.enrich.event import enrich_kill, enrich_missed_kills, enrich_no_victim, enrich_panic
from otel_oom.enrich.types import EnrichedKill, StillAlive, VictimOutcome
from otel_oom.model.events import MissedKills
from otel_oom.model.snapshot import HostMemory
from otel_oom.model.types import Memcg, MemcgUsage
from otel_oom.otlp import kernel_events
from otel_oom.otlp.encode import encode_log
from otel_oom.otlp.logfmt import format_tasks
from tests.testlib.samples.events import (
    CONTAINER_ID,
    DECISION,
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

PLAIN = Terminal(100)
HOSTILE = 'a\x1b[2J"\\\n\u202e= b'


def told(one: EnrichedKill, terminal: Terminal = PLAIN, fate: str = "delivered") -> str:
    """The page of a kill."""
    made = entry(one, log_fate=fate, span_fate=fate)
    return "\n".join(page.lines(made, [made], terminal))


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one."""
    _, _, rest = text.partition(f"\n{heading}\n")
    assert rest, text
    return re.split(r"\n\n(?=\S)", rest)[0]


def flat(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def test_it_reads_from_top_to_bottom() -> None:
    """First the sentence that backends have as the body, then the rest as people ask for it."""
    one = sample_enriched_kill()
    text = told(one)
    begin = flat(text.partition("What was killed")[0])
    assert begin.endswith(flat(str(kernel_events.kill_record(one).log_record.body)))
    headings = [line for line in text.splitlines() if re.match(r"[A-Z]", line)]
    order = [
        *("OOM kill, 2023-11-14T22:13:20Z", "What was killed", "Whose limit was hit"),
        *("Who used the memory", "Where it was asked for", "Timeline"),
        *("Settings in force", "What to do", "Where to find it"),
    ]
    assert [line for line in headings if line in order] == order


def test_what_was_killed() -> None:
    """The container, the process in its own and in the host's eyes, what it held, its cgroup."""
    what = section(told(sample_enriched_kill()), "What was killed")
    assert f"container    {CONTAINER_ID[:12]}" in what
    assert "java, pid 4711, pid 1 where it ran" in flat(what)
    assert "user 1000, oom_score_adj -5" in flat(what)
    assert "53.0 MiB resident (50.0 MiB anonymous, 3.0 MiB of files)" in flat(what)
    assert f"/docker/{CONTAINER_ID}" in what
    assert "host         node-1" in what
    assert "hunter2" not in what


def test_the_limit_is_drawn_with_what_used_it_up() -> None:
    """The bar is full at the limit; its parts are as long as their share of it."""
    limit = section(told(sample_enriched_kill()), "Whose limit was hit")
    assert "a cgroup above the victim's" in limit
    bars = {line.split("▕")[0].strip(): line for line in limit.splitlines() if "▕" in line}
    assert "64.0 MiB of 64.0 MiB (100%)" in bars["usage"]
    assert bars["usage"].count("█") == 40
    assert bars["anonymous"].count("█") == 40 * 58 // 64
    assert "4.0 MiB" in bars["of files"]
    assert "read 0.8 ms after the mark" in limit
    assert "5.0 GiB of 8.0 GiB were available" in bars["host"]
    assert "its limit was hit 120 times, 1 killed in it" in limit
    assert "some waited for memory 12.5 % of the time, all at once 9.25 %" in flat(limit)
    assert "victim's own 64.0 MiB of its own limit of 64.0 MiB" in flat(limit)


def test_where_the_host_had_nothing_left_its_memory_is_drawn() -> None:
    """With the kinds of it that no process is to blame for."""
    decision = replace(DECISION, constraint="none", memcg=None, memcg_usage=None)
    host = HostMemory(
        {"total": 8 << 30, "available": 0, "hugetlb": 6 << 30}
        | {"swap_total": 1 << 30, "swap_free": 0}
    )
    one = enrich_kill(
        sample_kill(decision=decision), replace(SNAPSHOT, host=host), VictimOutcome(EXIT), 0, HOST
    )
    limit = section(told(one), "Whose limit was hit")
    assert "the host itself: it had no memory left" in limit
    assert re.search(r"huge pages +▕█{30} +▏ 6\.0 GiB", limit)
    assert "1.0 GiB of 1.0 GiB (100%)" in limit


def test_a_limit_of_which_only_the_stack_tells() -> None:
    """That it was a cgroup's, and not which one: nothing of it is drawn."""
    one = replace(
        sample_enriched_kill(decision=None), snapshot=replace(SNAPSHOT, limit_cgroup=None)
    )
    limit = section(told(one), "Whose limit was hit")
    assert "a cgroup, of which it is not known which one" in limit
    assert "usage" not in limit


def test_who_used_the_memory_the_chosen_one_marked() -> None:
    """Each candidate with its score; what is never chosen is named."""
    who = section(told(sample_enriched_kill()), "Who used the memory")
    rows = [line.split() for line in who.splitlines()]
    (chosen,) = (row for row in rows if row[0] == "▶")
    assert chosen[1:8] == ["4711", "java", "53.0", "MiB", "-", "13000", "-5"]
    (other,) = (row for row in rows if "sidecar" in row[:2])
    assert other[0] == "99"
    assert other[-1] == "/docker/sidecar"
    assert "seen 1.5 ms after the mark" in who
    assert "Never chosen, by oom_score_adj -1000" in who


def test_the_candidates_are_read_as_they_were_written() -> None:
    """Names with quotes, spaces, line breaks and equals signs come back whole."""
    ranked = sample_enriched_kill().ranked_tasks
    hostile = replace(ranked[0], task=replace(ranked[0].task, comm=HOSTILE))
    (found,) = read(format_tasks([hostile]))
    assert found["comm"] == HOSTILE
    assert found["pid"] == str(ranked[0].task.tgid)
    assert found["memcg"] == ranked[0].task.memcg


def test_where_it_was_asked_for() -> None:
    """The trigger, which is another here; the kind of memory; both stacks, side by side."""
    where = section(told(sample_enriched_kill()), "Where it was asked for")
    assert "sidecar, pid 99, thread 100, another than the victim, in /docker" in flat(where)
    assert "shared memory or tmpfs, by write(), 4.0 KiB, GFP_KERNEL" in where
    whole = told(sample_enriched_kill())
    (first,) = (line for line in whole.splitlines() if "mark_oom_victim+0x1" in line)
    assert "0x1234" in first
    for frame in KILL.stack:
        assert frame in whole


def test_the_timeline_is_in_order_and_in_distances_from_the_mark() -> None:
    """Start, mark, what was read when, the reaper, the exit; what became of log and span."""
    one = enrich_kill(
        KILL, SNAPSHOT, VictimOutcome(EXIT, REAPER_STEPS), KILL.time_unix_ns + 150_000_000, HOST
    )
    lines = [line.strip() for line in section(told(one), "Timeline").splitlines()]
    assert [re.split(r"  +", line) for line in lines] == [
        ["-600.000 ms", "the victim was started"],
        ["0.000 ms", "the kernel chose it and sent SIGKILL (2023-11-14T22:13:20.000000Z)"],
        ["+0.800 ms", "the agent read the numbers of cgroup and host"],
        ["+1.500 ms", "the agent looked at who used the memory"],
        ["+100.000 ms", "the kernel's reaper began to take its memory, 50.0 MiB left"],
        ["+150.000 ms", "it was on the disk of this host"],
        ["+200.000 ms", "the kernel's reaper was done, 1.0 MiB left"],
        ["+250.000 ms", "the victim exited, by signal 9"],
        ["log", "taken by the backend"],
        ["span", "taken by the backend"],
    ]


@pytest.mark.parametrize(
    ("fate", "says"),
    [
        ("queued", "waits to be sent: see otel-oom queue"),
        ("pending", "not told yet"),
        (
            "rejected by http://x: HTTP 400: no\x1b[31m",
            "rejected by http://x: HTTP 400: no\\x1b[31m",
        ),
    ],
)
def test_what_has_become_of_it(fate: str, says: str) -> None:
    """Whether the backend has it, and why not; a backend's words are escaped."""
    timeline = section(told(sample_enriched_kill(), fate=fate), "Timeline")
    assert timeline.count(says) == 2


def test_a_victim_that_has_not_died() -> None:
    """Seen alive it is told with its state; not seen to exit, that is told."""
    alive = enrich_kill(KILL, SNAPSHOT, VictimOutcome(alive=StillAlive(11 * 10**9, "D")), 0, HOST)
    assert re.search(r"\+10\.0 s +the victim was still there, in state D", told(alive))
    assert "it was not seen to exit yet" in told(sample_enriched_kill(exit_=None))
    assert "it was not seen to exit yet" not in told(alive)


def test_the_settings_and_the_advice() -> None:
    """What each setting means; the advice that a backend has too."""
    one = sample_enriched_kill()
    text = told(one)
    assert "vm.oom_kill_allocating_task = 0: it kills the one with the highest oom_score" in text
    advice = (kernel_events.kill_record(one).log_record.attributes or {}).get("oom.advice")
    assert advice
    assert flat(section(text, "What to do")) == advice
    assert KILL.uid in section(text, "Where to find it")
    assert f"{KILL.trace_id:032x}" in section(text, "Where to find it")


def test_what_is_not_known_has_no_line() -> None:
    """Of a kill of which the kernel's log told little, nothing is made up."""
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
    text = told(bare)
    assert "None" not in text
    assert "Where it was asked for" not in text
    assert "Who used the memory" not in text


def test_all_members_of_a_group() -> None:
    """Each that the same decision killed, with this one marked."""
    first = entry(sample_enriched_kill(), 1)
    other = sample_kill(5, incident=KILL.uid, memcg=Memcg(43, "/docker/other"))
    second = entry(enrich_kill(other, SNAPSHOT, VictimOutcome(), 0, HOST), 2)
    text = "\n".join(page.lines(second, [first, second], PLAIN))
    group = section(text, "Killed together (memory.oom.group): 2")
    rows = [line.split() for line in group.splitlines()]
    assert [row[1] for row in rows if row[0] == "▶"] == [other.uid[:8]]
    assert KILL.uid[:8] in rows[1]
    assert "/docker/other" in group


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("colour", [False, True])
def test_hostile_names_are_harmless_and_the_page_is_no_wider_than_the_screen(
    width: int,
    colour: bool,  # noqa: FBT001
) -> None:
    """Wherever a name comes from, nothing of it is obeyed, and no line is too long."""
    victim = replace(KILL.victim, comm=HOSTILE, executable=f"/x/{HOSTILE}" * 20)
    trigger = replace(KILL.trigger, comm=HOSTILE) if KILL.trigger else None
    memcg = Memcg(42, f"/{HOSTILE}" * 40)
    decision = replace(DECISION, memcg=memcg, message=HOSTILE)
    one = sample_enriched_kill(victim=victim, trigger=trigger, memcg=memcg, decision=decision)
    one = replace(one, resource={"service.name": HOSTILE * 30, "host.name": HOSTILE})
    text = told(one, Terminal(width, colour=colour))
    plain = re.sub(r"\x1b\[[\d;]+m", "", text) if colour else text
    lines = plain.split("\n")
    assert all(line.isprintable() for line in lines)
    assert max(map(cells, lines)) <= width
    assert "a\\x1b[2J" in plain
    assert ("\x1b[1" in text) is colour


@pytest.mark.parametrize(
    "limits", [None, MemcgUsage(None, None, None, None), MemcgUsage(0, 0, 0, 0)]
)
def test_any_limits_can_be_drawn(limits: MemcgUsage | None) -> None:
    """Also those that are not known, and a limit of nothing."""
    text = told(sample_enriched_kill(decision=replace(DECISION, memcg_usage=limits)))
    assert "Whose limit was hit" in text


def test_events_without_a_victim() -> None:
    """Their pages have their own sentence and what is known; no victim is made up."""
    missed = MissedKills(
        boot_id="b", boottime_ns=1, time_unix_ns=10**18, count=3, kernel_count=9, reason="unknown"
    )
    for log, title in (
        (encode_log(enrich_no_victim(NO_VICTIM, 0, HOST)), "nobody to kill"),
        (encode_log(enrich_panic(PANIC, 0, HOST)), "Kernel panic"),
        (encode_log(enrich_missed_kills(missed, 0, HOST)), "missed"),
    ):
        made = log_entry(log)
        text = "\n".join(page.lines(made, [made], PLAIN))
        assert title in text.splitlines()[0]
        assert flat(made.record.body) in flat(text)
        assert "What was killed" not in text
        assert "None" not in text
