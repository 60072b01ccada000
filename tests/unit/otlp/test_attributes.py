"""Attributes of a kill."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from otel_oom.enrich.event import enrich_dropped_events, enrich_kill
from otel_oom.enrich.types import VictimOutcome
from otel_oom.linux.systemd.unit_files import UnitSetting
from otel_oom.model.snapshot import MemcgStats, Snapshot
from otel_oom.model.types import Memcg
from tests.testlib.samples.events import (
    CONTAINER_ID,
    DROPPED,
    HOST,
    KILL,
    SNAPSHOT,
    sample_enriched_kill,
)
from tests.testlib.samples.otlp import log_attributes


def test_kill_attributes_are_flat_and_complete() -> None:
    assert log_attributes(sample_enriched_kill()) == {
        "log.record.uid": KILL.uid,
        "process.pid": 4711,
        "process.vpid": 1,
        "process.parent_pid": 4700,
        "process.creation.time": "2023-11-14T22:13:19.400Z",
        "process.executable.name": "java",
        "process.executable.path": "/usr/bin/java",
        "process.command_args": ["java", "-Dpassword=***", "-jar", "x.jar"],
        "process.real_user.id": 1000,
        "process.linux.cgroup": "0::/docker/x",
        "process.runtime.name": "OpenJDK Runtime Environment",
        "oom.victim.runtime.settings": ["-Xms16m"],
        "oom.victim.comm": "java",
        "oom.victim.gid": 1001,
        "oom.victim.pid_namespace": 4026532000,
        "oom.victim.mount_namespace": 4026532001,
        "oom.victim.score_adj": -5,
        "error.type": "oom_kill",
        "oom.victim.memory.resident": 53 << 20,
        "oom.victim.memory.total_vm": 900 << 20,
        "oom.victim.memory.anon": 50 << 20,
        "oom.victim.memory.file": 3 << 20,
        "oom.victim.memory.shmem": 0,
        "oom.victim.memory.swap": 0,
        "oom.victim.memory.page_tables": 1 << 20,
        "oom.victim.memcg.path": f"/docker/{CONTAINER_ID}",
        "oom.victim.memcg.id": 42,
        "oom.victim.memcg.limit": 64 << 20,
        "oom.victim.memcg.usage": 64 << 20,
        "oom.victim.memcg.swap_usage": 0,
        "oom.trigger.pid": 99,
        "oom.trigger.tid": 100,
        "oom.trigger.comm": "sidecar",
        "oom.trigger.uid": 0,
        "oom.trigger.memcg.path": "/docker",
        "oom.trigger.memcg.id": 41,
        "oom.limit.scope": "ancestor",
        "oom.limit.memcg.path": "/docker",
        "oom.limit.memcg.id": 41,
        "oom.limit.memcg.limit": 64 << 20,
        "oom.limit.memcg.usage": 64 << 20,
        "oom.limit.memcg.swap_limit": 0,
        "oom.limit.memcg.swap_usage": 0,
        "oom.limit.memcg.stat.anon": 58 << 20,
        "oom.limit.memcg.stat.file": 4 << 20,
        "oom.limit.memcg.stat.shmem": 1 << 20,
        "oom.limit.memcg.events.max": 120,
        "oom.limit.memcg.events.oom_kill": 1,
        "oom.limit.memcg.pressure.some.avg10": 12.5,
        "oom.limit.memcg.pressure.some.avg60": 3.0,
        "oom.limit.memcg.pressure.full.avg10": 9.25,
        "oom.limit.memcg.pressure.full.avg60": 2.0,
        "oom.victim.memcg.stat.anon": 50 << 20,
        "oom.victim.memcg.stat.file": 3 << 20,
        "oom.victim.memcg.events.max": 3,
        "oom.victim.memcg.events.oom_kill": 1,
        "oom.host.memory.total": 8 << 30,
        "oom.host.memory.available": 5 << 30,
        "oom.host.memory.swap_total": 0,
        "oom.host.memory.swap_free": 0,
        "oom.host.pressure.some.avg10": 0.5,
        "oom.host.pressure.some.avg60": 0.25,
        "oom.host.pressure.full.avg10": 0.0,
        "oom.host.pressure.full.avg60": 0.0,
        "oom.host.sysctl.vm.oom_kill_allocating_task": 0,
        "oom.host.sysctl.vm.panic_on_oom": 0,
        "oom.host.sysctl.vm.swappiness": 60,
        "oom.snapshot.delay": 0.0008,
        "oom.tasks.largest": [
            (
                "pid=4711 comm=java resident=55574528 points=13000 score_adj=-5 uid=1000"
                f" memcg=/docker/{CONTAINER_ID} killed=true"
            ),
            (
                "pid=99 comm=sidecar resident=8388608 points=2064 score_adj=0 uid=0"
                " memcg=/docker/sidecar"
            ),
            (
                r'pid=98 comm="sh \"x\"\n\u001b[31m" resident=1048576 score_adj=-1000 uid=0'
                " memcg=/docker/sidecar"
            ),
        ],
        "oom.largest_task.pid": 4711,
        "oom.largest_task.comm": "java",
        "oom.largest_task.memory.resident": 55574528,
        "oom.advice": (
            "java (pid 4711) alone used 54.0 MiB of the limit of 64.0 MiB. Reduce its memory "
            "usage, or raise the limit of /docker (the host had 4.9 GiB available)."
        ),
        "oom.cause": "single_process",
        "oom.cause.evidence": [
            "oom.limit.memcg.limit=67108864",
            "oom.victim.memory.resident=55574528",
            "oom.victim.memory.page_tables=1048576",
        ],
        "oom.tasks.count": 3,
        "oom.tasks.memcg.path": "/docker",
        "oom.tasks.delay": 0.0015,
        "oom.outcome": "killed",
        "oom.incident.id": KILL.uid,
        "oom.decision.origin": "memcg",
        "oom.request.kernel_stack": [*KILL.stack],
        "oom.decision.constraint": "memcg",
        "oom.decision.points": 13000,
        "oom.decision.total_memory": 64 << 20,
        "oom.decision.message": "Memory cgroup out of memory",
        "oom.request.order": 0,
        "oom.request.gfp_mask": 0xCC0,
        "oom.request.gfp_flags": ["GFP_KERNEL"],
        "oom.request.user_stack": ["0123456789abcdef0123456789abcdef01234567+0x1234"],
        "oom.request.memory_type": "shmem",
        "oom.request.entry_point": "write",
        "oom.killer.name": "kernel",
        "oom.service.source": "executable",
        "oom.capture.source": "libbpf",
        "oom.capture.hook": "tp_btf/mark_victim",
        "oom.decision.source": "fentry/oom_kill_process",
    }


def test_memcg_parts_below_a_hundredth_and_zero_events_are_omitted() -> None:
    parts = {"anon": 900, "file": 100, "shmem": 10, "sock": 9, "percpu": 0}
    stats = MemcgStats(stat=parts, events={"oom": 0, "oom_kill": 2})
    kill = sample_enriched_kill()
    attributes = log_attributes(replace(kill, snapshot=replace(kill.snapshot, limit_cgroup=stats)))
    limit = {name.removeprefix("oom.limit.memcg."): value for name, value in attributes.items()}
    assert {name for name in limit if name.startswith("stat.")} == {
        "stat.anon",
        "stat.file",
        "stat.shmem",
    }
    assert {name: limit[name] for name in limit if name.startswith("events.")} == {
        "events.oom_kill": 2
    }


def test_victim_trigger_and_limit_have_their_own_units() -> None:
    decision = KILL.decision
    assert decision
    kill = sample_enriched_kill(
        memcg=Memcg(id=42, path="/shop.slice/web.service/worker"),
        trigger_memcg=Memcg(id=43, path="/shop.slice/backup.service"),
        decision=replace(decision, memcg=Memcg(id=41, path="/shop.slice")),
    )
    attributes = log_attributes(kill)
    assert {name: value for name, value in attributes.items() if ".systemd." in name} == {
        "oom.victim.systemd.unit": "web.service",
        "oom.victim.systemd.slice": "shop.slice",
        "oom.trigger.systemd.unit": "backup.service",
        "oom.limit.systemd.unit": "shop.slice",
    }


def test_limit_setting_has_its_line_and_file() -> None:
    setting = UnitSetting("MemoryMax=64M", Path("/etc/systemd/system/web.service"))
    attributes = log_attributes(replace(sample_enriched_kill(), limit_setting=setting))
    assert attributes["oom.limit.systemd.setting"] == "MemoryMax=64M"
    assert attributes["oom.limit.systemd.file"] == "/etc/systemd/system/web.service"


def test_victim_and_trigger_have_their_own_pods() -> None:
    uids = [f"{digit * 8}-0000-4000-8000-000000000000" for digit in "ab"]
    paths = [f"/kubepods/burstable/pod{uid}/{CONTAINER_ID}" for uid in uids]
    kill = sample_enriched_kill(
        memcg=Memcg(id=42, path=paths[0]), trigger_memcg=Memcg(id=43, path=paths[1])
    )
    attributes = log_attributes(kill)
    assert kill.resource["k8s.pod.uid"] == uids[0]
    assert attributes["oom.victim.pod.qos_class"] == "Burstable"
    assert attributes["oom.trigger.pod.uid"] == uids[1]
    alone = sample_enriched_kill(
        memcg=Memcg(id=42, path=paths[0]), trigger_memcg=Memcg(id=42, path=paths[0])
    )
    assert "oom.trigger.pod.uid" not in log_attributes(alone)


def test_unknown_values_are_absent() -> None:
    unknown = sample_enriched_kill(
        memory=None, memcg=None, decision=None, trigger=None, trigger_memcg=None, tasks=None
    )
    unknown = replace(unknown, snapshot=Snapshot(process_found=False))
    names = log_attributes(unknown)
    prefixes = (
        *("oom.victim.memory.", "oom.victim.memcg.p", "oom.limit.", "oom.trigger."),
        *("oom.host.", "oom.tasks.", "oom.snapshot."),
    )
    assert not [n for n in names if n.startswith(prefixes)]


def test_task_count_includes_a_victim_that_left_its_cgroup() -> None:
    assert KILL.tasks is not None
    empty = replace(KILL.tasks, count=0, largest=())
    kill = enrich_kill(replace(KILL, tasks=empty), SNAPSHOT, VictimOutcome(), 5, HOST)
    attributes = log_attributes(kill)
    assert str(attributes["oom.tasks.largest"]).count("killed=true") == 1
    assert attributes["oom.tasks.count"] == 1


def test_integer_beyond_64_signed_bits_is_dropped() -> None:
    assert KILL.memory is not None
    attributes = log_attributes(sample_enriched_kill(memory=replace(KILL.memory, total_vm=1 << 63)))
    assert "oom.victim.memory.total_vm" not in attributes
    assert attributes["oom.victim.memory.anon"] == 50 << 20


def test_long_value_is_truncated() -> None:
    long = replace(sample_enriched_kill(), executable="/" + "x" * 100_000)
    assert len(log_attributes(long)["process.executable.path"]) == 4096


def test_long_array_is_truncated_at_its_end() -> None:
    words = ("x" * 5000, "y" * 10_000, *map(str, range(10_000)))
    attributes = log_attributes(replace(sample_enriched_kill(), command=words))
    arguments = attributes["process.command_args"]
    assert [len(word) for word in arguments[:2]] == [4096, 4096]
    assert arguments[2:-1] == list(map(str, range(len(arguments) - 3)))
    assert 16_000 < sum(map(len, arguments)) <= 16_384


def test_allocation_flags_are_elements() -> None:
    decision = KILL.decision
    assert decision is not None
    flags = replace(decision, gfp_flags="GFP_KERNEL|__GFP_NOFAIL")
    attributes = log_attributes(sample_enriched_kill(decision=flags))
    assert attributes["oom.request.gfp_flags"] == ["GFP_KERNEL", "__GFP_NOFAIL"]


def test_largest_task_is_not_always_the_victim() -> None:
    small = replace(KILL.memory, anon=4096, file=0, shmem=0, swap=0) if KILL.memory else None
    attributes = log_attributes(sample_enriched_kill(memory=small))
    assert attributes["oom.largest_task.pid"] == 99
    assert attributes["oom.largest_task.comm"] == "sidecar"
    assert attributes["oom.largest_task.memory.resident"] == 8388608


def test_attributes_of_drops() -> None:
    assert log_attributes(enrich_dropped_events(DROPPED, 0, HOST, None)) == {
        "log.record.uid": DROPPED.uid,
        "oom.dropped.count": 31,
        "oom.dropped.report_count": 120,
        "oom.dropped.dead_letter_count": 0,
        "oom.dropped.memcg.path": f"/docker/{CONTAINER_ID}",
        "oom.dropped.duration": 58.0,
    }
