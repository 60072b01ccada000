"""Sample events, for tests of all stages after capture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.host import Host
from otel_oom.enrich.types import EnrichedKill, VictimOutcome
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.model.events import NoVictim, OomKill, Panic, ReaperStep, VictimExit
from otel_oom.model.loss import DroppedEvents
from otel_oom.model.runtime import JVM, RuntimeSettings
from otel_oom.model.snapshot import HostMemory, MemcgStats, Snapshot
from otel_oom.model.types import (
    Capture,
    Memcg,
    MemcgUsage,
    Memory,
    OomControl,
    OomTask,
    Task,
    TaskList,
    UserFrame,
)
from otel_oom.store import types

CONTAINER_ID = "0123456789abcdef" * 4
HOST_ATTRIBUTES = {"host.name": "node-1"}
HOST = Host(HOST_ATTRIBUTES, UserSymbolizer(Path("/nonexistent")))

DECISION = OomControl(
    source="fentry/oom_kill_process",
    constraint="memcg",
    order=0,
    gfp_mask=0xCC0,
    gfp_flags="GFP_KERNEL",
    points=13000,
    total_memory=64 << 20,
    message="Memory cgroup out of memory",
    memcg=Memcg(id=41, path="/docker"),
    memcg_usage=MemcgUsage(limit=64 << 20, usage=64 << 20, swap_limit=0, swap_usage=0),
)

KILL = OomKill(
    boot_id="f0e1d2c3-0000-4000-8000-000000000001",
    boottime_ns=1_000_000_000,
    time_unix_ns=1_700_000_000_000_000_000,
    victim=Task(
        tgid=4711,
        tid=4711,
        ppid=4700,
        namespaced_pid=1,
        uid=1000,
        gid=1001,
        pid_ns=4026532000,
        mnt_ns=4026532001,
        score_adj=-5,
        comm="java",
        command=("java", "-Dpassword=hunter2", "-jar", "x.jar"),
        start_boottime_ns=400_000_000,
    ),
    trigger=Task(
        tgid=99, tid=100, uid=0, score_adj=0, comm="sidecar", start_boottime_ns=300_000_000
    ),
    memory=Memory(
        total_vm=900 << 20, anon=50 << 20, file=3 << 20, shmem=0, swap=0, page_tables=1 << 20
    ),
    memcg=Memcg(id=42, path=f"/docker/{CONTAINER_ID}"),
    memcg_usage=MemcgUsage(limit=64 << 20, usage=64 << 20, swap_limit=None, swap_usage=0),
    trigger_memcg=Memcg(id=41, path="/docker"),
    decision=DECISION,
    user_stack=(UserFrame("0123456789abcdef0123456789abcdef01234567", 0x1234),),
    capture=Capture("libbpf", "tp_btf/mark_victim", cpu=0, sequence=1),
    stack=(
        "mark_oom_victim+0x1",
        "__oom_kill_process+0x1",
        "mem_cgroup_out_of_memory+0x2",
        "shmem_get_folio_gfp+0x3",
        "__x64_sys_write+0x4",
        "do_syscall_64+0x5",
    ),
    tasks=TaskList(
        memcg="/docker",
        boottime_ns=1_001_500_000,
        count=3,
        skipped=0,
        largest=(
            OomTask(4711, "java", 20 << 20, 0, 1 << 20, 1000, -5, f"/docker/{CONTAINER_ID}"),
            OomTask(99, "sidecar", 8 << 20, 0, 64 << 10, 0, 0, "/docker/sidecar"),
            OomTask(98, 'sh "x"\n\x1b[31m', 1 << 20, 0, 4 << 10, 0, -1000, "/docker/sidecar"),
        ),
    ),
)

SNAPSHOT = Snapshot(
    process_found=True,
    cgroup="0::/docker/x\n",
    executable="/usr/bin/java",
    boottime_ns=KILL.boottime_ns + 800_000,
    victim_cgroup=MemcgStats({"anon": 50 << 20, "file": 3 << 20}, {"max": 3, "oom_kill": 1}, {}),
    limit_cgroup=MemcgStats(
        {"anon": 58 << 20, "file": 4 << 20, "shmem": 1 << 20},
        {"max": 120, "oom_kill": 1},
        {"some.avg10": 12.5, "some.avg60": 3.0, "full.avg10": 9.25, "full.avg60": 2.0},
    ),
    host=HostMemory(
        {"total": 8 << 30, "available": 5 << 30, "swap_total": 0, "swap_free": 0},
        {"some.avg10": 0.5, "some.avg60": 0.25, "full.avg10": 0.0, "full.avg60": 0.0},
    ),
    vm_sysctl={"oom_kill_allocating_task": 0, "panic_on_oom": 0, "swappiness": 60},
    runtime=RuntimeSettings(JVM, None, "/usr/bin/java", {"-Xms": "16m"}),
)

NO_VICTIM = NoVictim(
    boot_id=KILL.boot_id,
    boottime_ns=KILL.boottime_ns,
    time_unix_ns=KILL.time_unix_ns,
    trigger=KILL.trigger,
    trigger_memcg=KILL.trigger_memcg,
    decision=replace(DECISION, points=None),
    capture=KILL.capture,
    stack=KILL.stack,
    repeat_count=3,
)

PANIC = Panic(
    boot_id="f0e1d2c3-0000-4000-8000-000000000009",
    boottime_ns=KILL.boottime_ns,
    time_unix_ns=KILL.time_unix_ns,
    trigger=Task(tgid=99, tid=100, uid=0, comm="sidecar"),
    decision=replace(
        DECISION, source="/sys/fs/pstore", points=None, total_memory=None, message=None
    ),
    capture=Capture("pstore", "/sys/fs/pstore", cpu=None, sequence=0),
    stack=KILL.stack[2:],
    message="Out of memory: compulsory panic_on_oom is enabled",
    tid=100,
    comm="sidecar",
    time_source="log",
    original="x" * 20_000,
)

DROPPED = DroppedEvents(
    boot_id=KILL.boot_id,
    boottime_ns=KILL.boottime_ns,
    time_unix_ns=KILL.time_unix_ns,
    holder=f"/docker/{CONTAINER_ID}",
    count=31,
    report_count=120,
    dead_letter_count=0,
    start_unix_ns=KILL.time_unix_ns - 58_000_000_000,
)

REAPER_STEPS = (
    ReaperStep(4711, 400_000_000, 1_100_000_000, "start", 50 << 20),
    ReaperStep(4711, 400_000_000, 1_200_000_000, "finish", 1 << 20),
)

EXIT = VictimExit(tgid=4711, start_boottime_ns=400_000_000, boottime_ns=1_250_000_000, exit_code=9)


def sample_kill(number: int = 0, **changes: Any) -> OomKill:  # noqa: ANN401  any field of the event
    """Return the sample kill, with another identity for each ``number``."""
    victim = replace(KILL.victim, start_boottime_ns=(KILL.victim.start_boottime_ns or 0) + number)
    other = replace(KILL, boottime_ns=KILL.boottime_ns + number, victim=victim)
    return replace(other, **changes)


def sample_enriched_kill(exit_: VictimExit | None = EXIT, **changes: Any) -> EnrichedKill:  # noqa: ANN401
    """Return the sample kill, enriched."""
    return enrich_kill(
        sample_kill(**changes), SNAPSHOT, VictimOutcome(exit_), KILL.time_unix_ns + 5, HOST
    )


T = TypeVar("T", bound=Struct)


def roundtrip(value: T) -> T:
    """Return ``value`` as its stored JSON gives it back."""
    return types.decode(type(value), types.encode(value))
