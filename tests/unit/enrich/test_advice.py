"""Cause, evidence and advice: each rule, and the cases without advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.finding import Cause, Finding
from otel_oom.enrich.types import EnrichedKill, VictimOutcome
from otel_oom.model.snapshot import HostMemory, MemcgStats
from otel_oom.model.types import Memcg, MemcgUsage, OomTask, TaskList
from otel_oom.otlp.event import build_event
from tests.testlib.evidence import check_evidence
from tests.testlib.samples.events import HOST, KILL, SNAPSHOT

MIB, GIB = 1 << 20, 1 << 30
OWN = "/pod/app"
HOST_STACK = ("mark_oom_victim+0x1", "__oom_kill_process+0x1", "__alloc_pages_may_oom+0x2")
SYSRQ_STACK = ("mark_oom_victim+0x1", "__oom_kill_process+0x1", "moom_callback+0x2")


def other(
    pid: int, mib: int, *, score_adj: int = 0, memcg: str = "/pod/other", comm: str = "other"
) -> OomTask:
    """Return another process of that size."""
    return OomTask(pid, comm, mib * MIB, 0, 0, 0, score_adj, memcg)


@dataclass(frozen=True)
class Case:
    """A kill of a process of 54 MiB with page tables, and what differs from the sample."""

    advice: str | None
    """A part of the advice; ``None`` for none."""
    cause: Cause | None = "single_process"
    hit: str | None = OWN
    limit: int | None = 64 * MIB
    stat: dict[str, int] = field(default_factory=dict)
    host: dict[str, int] = field(default_factory=lambda: {"total": 8 * GIB, "available": 5 * GIB})
    others: Sequence[OomTask] = ()
    constraint: str | None = None
    order: int = 0
    message: str = "Memory cgroup out of memory"
    stack: tuple[str, ...] = KILL.stack
    score_adj: int = 0
    original: str | None = None
    scanned: bool = True
    skipped: bool = False

    def enriched(self) -> EnrichedKill:
        """Return the enriched kill."""
        assert KILL.decision is not None
        tasks = TaskList(self.hit, 0, len(self.others) + 1, 0, tuple(self.others))
        kill = replace(
            KILL,
            tasks=tasks if self.scanned else None,
            victim=replace(KILL.victim, score_adj=self.score_adj),
            memcg=Memcg(None, OWN),
            stack=self.stack,
            original=self.original,
            skipped=self.skipped,
            decision=replace(
                KILL.decision,
                constraint=self.constraint or ("memcg" if self.hit else "none"),
                order=self.order,
                message=self.message,
                memcg=Memcg(None, self.hit) if self.hit else None,
                memcg_usage=MemcgUsage(self.limit, self.limit, None, None) if self.hit else None,
            ),
        )
        snapshot = replace(
            SNAPSHOT,
            victim_cgroup=None,
            limit_cgroup=MemcgStats(self.stat) if self.hit else None,
            host=HostMemory(self.host),
        )
        return enrich_kill(kill, snapshot, VictimOutcome(), KILL.time_unix_ns, HOST)


SMALL_HOST = {"total": 100 * MIB, "available": 55 * MIB, "swap_total": 0}

CASES = {
    "single process": Case(
        "java (pid 4711) alone used 54.0 MiB of the limit of 64.0 MiB. Reduce its memory usage, or "
        "raise the limit of /pod/app (the host had 4.9 GiB available)."
    ),
    "single process on a full host": Case(
        "or raise the limit of /pod/app.", host={"total": 8 * GIB, "available": 60 * MIB}
    ),
    "tmpfs": Case(
        "Shared memory and tmpfs use 40.0 MiB of the limit of 64.0 MiB: ",
        stat={"shmem": 40 * MIB},
        cause="unreclaimable_memory",
    ),
    "half of the limit": Case(
        "32.0 MiB of the limit", stat={"shmem": 32 * MIB}, cause="unreclaimable_memory"
    ),
    "less than half of the limit": Case("alone used", stat={"shmem": 31 * MIB, "sock": 31 * MIB}),
    "sockets": Case(
        "Socket buffers use",
        stat={"sock": 40 * MIB, "kernel": 40 * MIB},
        cause="unreclaimable_memory",
    ),
    "kernel": Case("Kernel objects use", stat={"kernel": 40 * MIB}, cause="unreclaimable_memory"),
    "slow disk": Case(
        "Unwritten file pages use 40.0 MiB of the limit of 64.0 MiB: the disk is slower",
        stat={"file_dirty": 30 * MIB, "file_writeback": 10 * MIB},
        cause="unreclaimable_memory",
    ),
    "protected process": Case(
        "other (pid 7) used more, 60.0 MiB, but its oom_score_adj of -500 against 0 protected it",
        others=[other(7, 60, score_adj=-500)],
        cause="spared_process",
    ),
    "larger process without protection": Case("alone used", others=[other(7, 60)]),
    "smaller protected process": Case("alone used", others=[other(7, 20, score_adj=-500)]),
    "sibling cgroup": Case(
        "The limit of 128.0 MiB is shared, and /pod/other used at least 80.0 MiB of it",
        hit="/pod",
        limit=128 * MIB,
        others=[other(7, 40), other(8, 40)],
        cause="contention",
    ),
    "small sibling cgroup": Case("java (pid 4711) alone", hit="/pod", others=[other(7, 20)]),
    "many processes": Case(
        "No process dominates: the largest of 11 used 54.0 MiB of the limit of 512.0 MiB",
        limit=512 * MIB,
        others=[other(pid, 40, memcg=OWN) for pid in range(10, 20)],
        cause="contention",
    ),
    "few processes": Case(None, limit=512 * MIB, others=[other(7, 40)], cause="unknown"),
    "host": Case(
        "java (pid 4711) used 54.0 MiB of the host's 100.0 MiB. Give its cgroup a limit that "
        "leaves memory for the rest of the host, which has no swap, or reduce its memory usage.",
        hit=None,
        host=SMALL_HOST,
        stack=HOST_STACK,
        cause="host_memory",
    ),
    "host with swap": Case(
        "the rest of the host, or",
        hit=None,
        host=SMALL_HOST | {"swap_total": 1},
        stack=HOST_STACK,
        cause="host_memory",
    ),
    "many processes on the host": Case(
        "No process dominates: the largest of 11 used 54.0 MiB of the host's 8.0 GiB",
        hit=None,
        stack=HOST_STACK,
        others=[other(pid, 40) for pid in range(10, 20)],
        cause="host_memory",
    ),
    "huge pages": Case(
        "Reserved huge pages use 60.0 MiB of the host's 100.0 MiB: ",
        hit=None,
        host=SMALL_HOST | {"hugetlb": 60 * MIB},
        cause="unreclaimable_memory",
    ),
    "tmpfs of the host": Case(
        "Shared memory and tmpfs use",
        hit=None,
        host=SMALL_HOST | {"shmem": 50 * MIB},
        cause="unreclaimable_memory",
    ),
    "slab": Case(
        "slabtop",
        hit=None,
        host=SMALL_HOST | {"slab_unreclaimable": 50 * MIB},
        cause="unreclaimable_memory",
    ),
    "allocating task": Case(
        "The kernel is set to kill the allocating task (vm.oom_kill_allocating_task), but other "
        "(pid 7) used more, 80.0 MiB",
        hit=None,
        host=SMALL_HOST,
        message="Out of memory (oom_kill_allocating_task)",
        others=[other(7, 80)],
        cause="spared_process",
    ),
    "allocating task was the largest": Case(
        "used 54.0 MiB of the host's 100.0 MiB",
        hit=None,
        host=SMALL_HOST,
        message="Out of memory (oom_kill_allocating_task)",
        others=[other(7, 8)],
        cause="host_memory",
    ),
    "cpuset": Case(
        "not on the NUMA nodes that the trigger may use. Widen its cpuset (cpuset.mems)",
        hit=None,
        constraint="cpuset",
        cause="numa_constraint",
    ),
    "memory policy": Case(
        "Widen its memory policy", hit=None, constraint="memory_policy", cause="numa_constraint"
    ),
    "cpuset on a full host": Case(
        "used 54.0 MiB of the host's",
        hit=None,
        constraint="cpuset",
        host=SMALL_HOST,
        cause="host_memory",
    ),
    "host without a large process": Case(
        "The host had 160.0 MiB of its 8.0 GiB available. Give its pods, containers and units",
        hit=None,
        host={"total": 8 * GIB, "available": 160 * MIB},
        cause="host_memory",
    ),
    "cpuset on a full host without a large process": Case(
        "The host had 0 B of its 8.0 GiB available",
        hit=None,
        constraint="cpuset",
        host={"total": 8 * GIB, "available": 0},
        cause="host_memory",
    ),
    "host without processes": Case(
        "The host had 1.0 MiB of its 100.0 MiB available",
        hit=None,
        host=SMALL_HOST | {"available": MIB},
        scanned=False,
        stack=HOST_STACK,
        cause="host_memory",
    ),
    "host of a log": Case(None, hit=None, host={}, scanned=False, cause="host_memory"),
    "large request of a log": Case(
        None, hit=None, host={}, order=2, scanned=False, cause="unknown"
    ),
    "cpuset of a log": Case(
        None, hit=None, host={}, constraint="cpuset", scanned=False, cause="unknown"
    ),
    "host with memory": Case(None, hit=None, cause="unknown"),
    "fragmented": Case(
        "The request was for 16.0 KiB in one piece", hit=None, order=2, cause="fragmentation"
    ),
    "fragmented by a victim that still has its memory": Case(
        "available were in smaller pieces",
        hit=None,
        host={"total": 8 * GIB, "available": MIB},
        order=2,
        original="Mem-Info:\nactive_anon:27\\x0a mapped:12\\x0a free:262144 free_pcp:10\n"
        "Node 0 Normal free:44kB boost:0kB",
        cause="fragmentation",
    ),
    "order-2 request of a full host": Case(
        "The host had 1.0 MiB of its 8.0 GiB available",
        hit=None,
        host={"total": 8 * GIB, "available": MIB},
        order=2,
        original="Mem-Info:\n free:4096 free_pcp:10 free_cma:0",
        cause="host_memory",
    ),
    "sysrq": Case(
        "sysrq f", hit=None, order=-1, stack=SYSRQ_STACK, scanned=False, cause="requested"
    ),
    "no process list": Case(None, scanned=False, cause="unknown"),
    "skipped": Case(None, skipped=True, cause=None),
    "unknown limit": Case(None, limit=None, cause="unknown"),
    "hostile name": Case(
        r'"x\n\u001b[2J" (pid 7) used more',
        others=[other(7, 60, score_adj=-500, comm="x\n\x1b[2J")],
        cause="spared_process",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_advice(case: Case) -> None:
    finding = case.enriched().finding or Finding("unknown")
    advice = finding.advice
    if case.advice is None:
        assert advice is None
    else:
        assert advice is not None
        assert case.advice in advice
        assert advice.isprintable()
        assert advice.endswith(".")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cause(case: Case) -> None:
    """A victim that was killed has one."""
    enriched = case.enriched()
    assert (enriched.finding.cause if enriched.finding else None) == case.cause
    attributes = build_event(enriched).attributes
    assert attributes.get("oom.cause") == case.cause
    check_evidence(attributes)


@pytest.mark.parametrize(("usage_mib", "cause"), [(64, "single_process"), (40, "unknown")])
def test_a_full_cgroup_is_the_limit_where_no_decision_is_known(usage_mib: int, cause: str) -> None:
    """The kernel prints ten reports in five seconds, and not every kernel has a hook."""
    memcg = KILL.memcg
    usage = MemcgUsage(64 * MIB, usage_mib * MIB, None, None)
    kill = replace(KILL, decision=None, trigger_memcg=memcg, memcg_usage=usage)
    enriched = enrich_kill(kill, SNAPSHOT, VictimOutcome(), KILL.time_unix_ns, HOST)
    attributes = build_event(enriched).attributes
    assert attributes["oom.cause"] == cause
    evidence = check_evidence(attributes)
    assert evidence.get("oom.victim.memcg.limit") == (str(64 * MIB) if evidence else None)
