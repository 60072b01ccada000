"""The translation, held against OpenTelemetry's rules for events and spans."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_oom import __version__
from otel_oom.enrich.event import enrich_kill, enrich_no_victim, enrich_panic
from otel_oom.enrich.types import EnrichedKill, StillAlive, VictimOutcome
from otel_oom.linux.systemd.unit_files import UnitSetting
from otel_oom.model.snapshot import MemcgStats, Snapshot
from otel_oom.model.types import Memcg, MemcgUsage, Memory
from otel_oom.model.units import format_bytes
from otel_oom.otlp import kernel_events
from otel_oom.otlp.body import kill_body
from otel_oom.otlp.encode import encode_log, encode_span
from otel_oom.otlp.kill_span import kill_span
from tests.testlib.samples.events import (
    CONTAINER_ID,
    EXIT,
    HOST,
    HOST_ATTRIBUTES,
    KILL,
    NO_VICTIM,
    PANIC,
    REAPER_STEPS,
    SNAPSHOT,
    sample_enriched_kill,
)
from tests.testlib.servers.backend import attributes_to_dict

CONTAINED = f"container {CONTAINER_ID[:12]}"


def log(kill: EnrichedKill) -> LogRecord:
    """The one log record of ``kill``, through the wire."""
    request = ExportLogsServiceRequest.FromString(encode_log(kill))
    return request.resource_logs[0].scope_logs[0].log_records[0]


def span(kill: EnrichedKill) -> Span:
    """The one span of ``kill``, through the wire."""
    request = ExportTraceServiceRequest.FromString(encode_span(kill))
    return request.resource_spans[0].scope_spans[0].spans[0]


def test_the_log_is_an_event() -> None:
    """EventName, the kernel's time, FATAL without a text, a body for people."""
    record = log(sample_enriched_kill())
    assert record.event_name == "oom.kill"
    assert record.time_unix_nano == KILL.time_unix_ns
    assert record.observed_time_unix_nano == KILL.time_unix_ns + 5
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_FATAL
    assert record.severity_text == ""
    assert record.body.string_value == kill_body(sample_enriched_kill())


def test_log_and_span_know_each_other() -> None:
    """The log carries the ids of the span, and both the uid of the event."""
    record, told = log(sample_enriched_kill()), span(sample_enriched_kill())
    assert record.trace_id == told.trace_id == KILL.trace_id.to_bytes(16, "big")
    assert record.span_id == told.span_id == KILL.span_id.to_bytes(8, "big")
    assert attributes_to_dict(record.attributes)["log.record.uid"] == KILL.uid
    assert attributes_to_dict(told.attributes)["log.record.uid"] == KILL.uid


def test_the_attributes_are_flat_and_complete() -> None:
    """The victim as a process, its memory, its cgroup, the trigger: plain values each."""
    assert attributes_to_dict(log(sample_enriched_kill()).attributes) == {
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
        "oom.victim.comm": "java",
        "oom.victim.gid": 1001,
        "oom.victim.pid_namespace": 4026532000,
        "oom.victim.mount_namespace": 4026532001,
        "oom.victim.score_adj": -5,
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
        "oom.tasks.largest": (
            "pid=4711 comm=java resident=55574528 points=13000 score_adj=-5 uid=1000"
            f" memcg=/docker/{CONTAINER_ID} killed=true\n"
            "pid=99 comm=sidecar resident=8388608 points=2064 score_adj=0 uid=0"
            " memcg=/docker/sidecar\n"
            r'pid=98 comm="sh \"x\"\n\u001b[31m" resident=1048576 score_adj=-1000 uid=0'
            " memcg=/docker/sidecar"
        ),
        "oom.advice": (
            "java (pid 4711) alone used 54.0 MiB of the limit of 64.0 MiB. Reduce its memory "
            "usage, or raise the limit of /docker (the host had 4.9 GiB available)."
        ),
        "oom.tasks.count": 3,
        "oom.tasks.memcg.path": "/docker",
        "oom.tasks.delay": 0.0015,
        "oom.outcome": "killed",
        "oom.incident.id": KILL.uid,
        "oom.decision.origin": "memcg",
        "oom.request.kernel_stack": "\n".join(KILL.stack),
        "oom.decision.constraint": "memcg",
        "oom.decision.points": 13000,
        "oom.decision.total_memory": 64 << 20,
        "oom.decision.message": "Memory cgroup out of memory",
        "oom.request.order": 0,
        "oom.request.gfp_mask": 0xCC0,
        "oom.request.gfp_flags": "GFP_KERNEL",
        "oom.request.user_stack": "0123456789abcdef0123456789abcdef01234567+0x1234",
        "oom.request.memory_type": "shmem",
        "oom.request.entry_point": "write",
        "oom.killer.name": "kernel",
        "oom.capture.source": "libbpf",
        "oom.capture.hook": "tp_btf/mark_victim",
        "oom.decision.source": "fentry/oom_kill_process",
    }


def test_loki_takes_a_record_however_much_is_known() -> None:
    """Its default is 128 entries of record and resource, a dozen of which are its own words."""
    record, alone = (
        sample_enriched_kill(),
        attributes_to_dict(log(sample_enriched_kill()).attributes),
    )
    more = {f"a.{at}": "x" for at in range(30)}
    few, many = log(record), log(replace(record, resource={**record.resource, **more}))
    assert few.dropped_attributes_count == 0
    told = attributes_to_dict(many.attributes)
    assert len(told) + len(record.resource) + len(more) == 112
    assert many.dropped_attributes_count == len(alone) - len(told)
    # What goes is around the kill, never the kill itself.
    assert all(
        name.startswith(("oom.host.sysctl.vm.", "oom.host.", "oom.victim.memcg."))
        for name in alone.keys() - told.keys()
    )


def test_small_parts_of_a_cgroups_memory_are_not_worth_a_word() -> None:
    """A hundredth is, less is not; of what never happened there is no count."""
    parts = {"anon": 900, "file": 100, "shmem": 10, "sock": 9, "percpu": 0}
    seen = MemcgStats(stat=parts, events={"oom": 0, "oom_kill": 2})
    kill = sample_enriched_kill()
    attributes = attributes_to_dict(
        log(replace(kill, snapshot=replace(kill.snapshot, limit_cgroup=seen))).attributes
    )
    told = {name.removeprefix("oom.limit.memcg."): value for name, value in attributes.items()}
    assert {name for name in told if name.startswith("stat.")} == {
        "stat.anon",
        "stat.file",
        "stat.shmem",
    }
    assert {name: told[name] for name in told if name.startswith("events.")} == {
        "events.oom_kill": 2
    }


def test_victim_trigger_and_limit_each_have_their_unit() -> None:
    """A service killed at its slice's limit for another one's request, each by its name."""
    decision = KILL.decision
    assert decision
    kill = sample_enriched_kill(
        memcg=Memcg(id=42, path="/shop.slice/web.service/worker"),
        trigger_memcg=Memcg(id=43, path="/shop.slice/backup.service"),
        decision=replace(decision, memcg=Memcg(id=41, path="/shop.slice")),
    )
    attributes = attributes_to_dict(log(kill).attributes)
    assert {name: value for name, value in attributes.items() if ".systemd." in name} == {
        "oom.victim.systemd.unit": "web.service",
        "oom.victim.systemd.slice": "shop.slice",
        "oom.trigger.systemd.unit": "backup.service",
        "oom.limit.systemd.unit": "shop.slice",
    }


def test_the_setting_of_a_limit_is_told_with_its_file() -> None:
    """Where to look for it, and what stands there."""
    setting = UnitSetting("MemoryMax=64M", Path("/etc/systemd/system/web.service"))
    attributes = attributes_to_dict(
        log(replace(sample_enriched_kill(), limit_setting=setting)).attributes
    )
    assert attributes["oom.limit.systemd.setting"] == "MemoryMax=64M"
    assert attributes["oom.limit.systemd.file"] == "/etc/systemd/system/web.service"


def test_victim_and_trigger_each_have_their_pod() -> None:
    """The victim's is its resource, with the class beside it; another pod's trigger is named."""
    uids = [f"{digit * 8}-0000-4000-8000-000000000000" for digit in "ab"]
    paths = [f"/kubepods/burstable/pod{uid}/{CONTAINER_ID}" for uid in uids]
    kill = sample_enriched_kill(
        memcg=Memcg(id=42, path=paths[0]), trigger_memcg=Memcg(id=43, path=paths[1])
    )
    attributes = attributes_to_dict(log(kill).attributes)
    assert kill.resource["k8s.pod.uid"] == uids[0]
    assert attributes["oom.victim.pod.qos_class"] == "Burstable"
    assert attributes["oom.trigger.pod.uid"] == uids[1]
    alone = sample_enriched_kill(
        memcg=Memcg(id=42, path=paths[0]), trigger_memcg=Memcg(id=42, path=paths[0])
    )
    assert "oom.trigger.pod.uid" not in attributes_to_dict(log(alone).attributes)


def test_what_is_not_known_is_absent() -> None:
    """Without memory and cgroup there are no such attributes, rather than zeros."""
    unknown = sample_enriched_kill(
        memory=None, memcg=None, decision=None, trigger=None, trigger_memcg=None
    )
    unknown = replace(unknown, snapshot=Snapshot(process_found=False), ranked_tasks=())
    names = attributes_to_dict(log(unknown).attributes)
    prefixes = (
        *("oom.victim.memory.", "oom.victim.memcg.p", "oom.limit.", "oom.trigger."),
        *("oom.host.", "oom.tasks.", "oom.snapshot."),
    )
    assert not [n for n in names if n.startswith(prefixes)]


def test_the_limits_of_the_mark_are_told_whatever_is_left_of_the_cgroup() -> None:
    """They are exact; of swap only where the kernel has files of it, if there are any to see."""
    marked = sample_enriched_kill(
        memcg_usage=MemcgUsage(limit=32 << 20, usage=31 << 20, swap_limit=None, swap_usage=0)
    )
    own = "oom.victim.memcg."

    def told(kill: EnrichedKill, read: MemcgUsage | None) -> dict[str, object]:
        seen = replace(kill, snapshot=replace(kill.snapshot, memcg_usage=read))
        attributes = attributes_to_dict(log(seen).attributes)
        names = ("limit", "usage", "swap_limit", "swap_usage")
        return {name: attributes[own + name] for name in names if own + name in attributes}

    bounds = {"limit": 32 << 20, "usage": 31 << 20}
    assert told(marked, None) == bounds | {"swap_usage": 0}
    assert told(marked, MemcgUsage(64, 1, None, 1)) == bounds | {"swap_usage": 0}
    assert told(marked, MemcgUsage(64, 1, None, None)) == bounds
    # Of a late kill no usage is read at all.
    assert told(marked, MemcgUsage(64, None, None, None)) == bounds | {"swap_usage": 0}
    assert told(sample_enriched_kill(), MemcgUsage(64, 1, None, None)) == {"limit": 64, "usage": 1}


def test_no_fewer_candidates_are_counted_than_told() -> None:
    """A victim that was gone when its cgroup was looked into is told, and counted."""
    assert SNAPSHOT.tasks is not None
    empty = replace(SNAPSHOT.tasks, count=0, largest=())
    kill = enrich_kill(KILL, replace(SNAPSHOT, tasks=empty), VictimOutcome(), 5, HOST)
    attributes = attributes_to_dict(log(kill).attributes)
    assert str(attributes["oom.tasks.largest"]).count("killed=true") == 1
    assert attributes["oom.tasks.count"] == 1


@pytest.mark.parametrize(
    ("path", "of_trigger", "expected"),
    [
        ("/system.slice/web.service", "/system.slice/db.service", ("web.service", "db.service")),
        ("/system.slice/web.service", "/system.slice/web.service/x", ("web.service", None)),
        (
            "/user.slice/user-1.slice/user@1.service/app.slice/shop.service",
            "/user.slice/user-1.slice/user@1.service/init.scope",
            ("shop.service", "init.scope"),
        ),
        ("/x", "/system.slice/db.service", (None, "db.service")),
        # Of a container its name says more.
        (
            f"/system.slice/docker-{CONTAINER_ID}.scope",
            f"/system.slice/docker-{CONTAINER_ID}.scope/x",
            (CONTAINED, None),
        ),
        (f"/docker/{CONTAINER_ID}", "/system.slice/db.service", (CONTAINED, "db.service")),
    ],
)
def test_the_unit_is_in_the_sentence(
    path: str, of_trigger: str, expected: tuple[str | None, str | None]
) -> None:
    """Of the victim and of a trigger that is not in the same, where they are in no container."""
    text = kill_body(
        sample_enriched_kill(memcg=Memcg(42, path), trigger_memcg=Memcg(43, of_trigger))
    )
    victim, trigger = expected
    of_victim = f" in {victim}" if victim else ""
    assert f"java (pid 4711){of_victim}; it used" in text
    assert (
        "sidecar (pid 99) requested" if trigger is None else f"(pid 99) in {trigger} requested"
    ) in text


def test_a_number_too_large_for_otlp_is_left_out() -> None:
    """A kernel's unsigned number beyond OTLP's signed 64 bits costs itself, not the record."""
    assert KILL.memory is not None
    attributes = attributes_to_dict(
        log(sample_enriched_kill(memory=replace(KILL.memory, total_vm=1 << 63))).attributes
    )
    assert "oom.victim.memory.total_vm" not in attributes
    assert attributes["oom.victim.memory.anon"] == 50 << 20


def test_a_long_value_is_bounded() -> None:
    """No name, however long, makes a record without bound."""
    long = replace(sample_enriched_kill(), executable="/" + "x" * 100_000)
    assert len(attributes_to_dict(log(long).attributes)["process.executable.path"]) == 4096


def test_the_span_is_the_time_of_dying() -> None:
    """It lasts from the mark to the exit, its events are the stages, and its status an error."""
    told = span(sample_enriched_kill())
    end = KILL.time_unix_ns + 250_000_000
    assert (told.name, told.start_time_unix_nano) == ("oom.kill", KILL.time_unix_ns)
    assert told.end_time_unix_nano == end
    assert [(event.name, event.time_unix_nano) for event in told.events] == [
        ("oom.victim.marked", KILL.time_unix_ns),
        ("oom.victim.exited", end),
    ]
    assert attributes_to_dict(told.events[1].attributes) == {
        "oom.victim.exit.signal": 9,
        "oom.victim.exit.delay": 0.25,
    }
    assert told.status.code == Status.STATUS_CODE_ERROR
    assert attributes_to_dict(told.attributes)["oom.victim.exited"] is True


def test_a_victim_that_was_gone_before_its_mark_ends_no_earlier() -> None:
    """The kernel signals it first: its span has no length, rather than a negative one."""
    early = replace(EXIT, boottime_ns=KILL.boottime_ns - 2_600)
    told = span(sample_enriched_kill(exit_=early))
    assert told.end_time_unix_nano == told.start_time_unix_nano
    assert attributes_to_dict(told.events[-1].attributes)["oom.victim.exit.delay"] == 0


def test_what_dies_together_is_one_trace() -> None:
    """A member of a group is a child of the first one's span, and names it as its incident."""
    first, member = sample_enriched_kill(), sample_enriched_kill(number=1, incident=KILL.uid)
    assert span(member).trace_id == span(first).trace_id
    assert span(member).parent_span_id == span(first).span_id != span(member).span_id
    assert span(first).parent_span_id == b""
    assert attributes_to_dict(log(member).attributes)["oom.incident.id"] == KILL.uid


def test_an_end_without_a_code_is_told_without_a_signal() -> None:
    """Zero would be a victim that ended by itself."""
    told = span(sample_enriched_kill(exit_=replace(EXIT, exit_code=None)))
    assert attributes_to_dict(told.events[-1].attributes) == {"oom.victim.exit.delay": 0.25}
    assert attributes_to_dict(told.attributes)["oom.victim.exited"] is True


def test_a_victim_that_was_exiting_anyway_is_not_told_as_killed() -> None:
    """The kernel counts it as no kill: the severity is WARN, and the sentence says what it was."""
    stack = ("mark_oom_victim+0x1", "out_of_memory+0x2", "mem_cgroup_out_of_memory+0x3")
    record = log(sample_enriched_kill(stack=stack))
    assert attributes_to_dict(record.attributes)["oom.outcome"] == "already_exiting"
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_WARN
    assert "killed" not in record.body.string_value


def test_a_victim_that_was_skipped_is_not_told_as_killed() -> None:
    """It was chosen, and the kernel let it be: a warning, and a sentence that says so."""
    record = log(sample_enriched_kill(skipped=True, memory=None))
    assert attributes_to_dict(record.attributes)["oom.outcome"] == "skipped"
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_WARN
    assert "did not kill" in record.body.string_value


def test_a_span_whose_end_nobody_saw_invents_none() -> None:
    """Without an exit, and without a sign of life, the span says nothing of either."""
    told = span(sample_enriched_kill(exit_=None))
    assert told.end_time_unix_nano == told.start_time_unix_nano
    assert [event.name for event in told.events] == ["oom.victim.marked"]
    assert "oom.victim.exited" not in attributes_to_dict(told.attributes)


def test_a_victim_that_does_not_die_is_told_with_its_state() -> None:
    """The span ends when it was last seen alive, and says what it was doing."""
    alive = StillAlive(KILL.boottime_ns + 10_000_000_000, "D")
    told = span(replace(sample_enriched_kill(), victim_outcome=VictimOutcome(alive=alive)))
    assert told.end_time_unix_nano - told.start_time_unix_nano == 10_000_000_000
    assert told.events[-1].name == "oom.victim.alive"
    assert attributes_to_dict(told.events[-1].attributes) == {"oom.victim.state": "D"}
    assert attributes_to_dict(told.attributes)["oom.victim.exited"] is False


def test_what_the_reaper_took_is_told() -> None:
    """Its steps are events of the span, and the sum an attribute."""
    told = span(replace(sample_enriched_kill(), victim_outcome=VictimOutcome(EXIT, REAPER_STEPS)))
    assert [event.name for event in told.events] == [
        "oom.victim.marked",
        "oom.reaper",
        "oom.reaper",
        "oom.victim.exited",
    ]
    assert attributes_to_dict(told.events[2].attributes) == {
        "oom.reaper.stage": "finish",
        "oom.reaper.resident": 1 << 20,
    }
    assert attributes_to_dict(told.attributes)["oom.victim.memory.reaped"] == 49 << 20


def test_a_want_of_memory_without_a_victim_is_an_event_of_its_own() -> None:
    """It names nobody as killed, has no span, and says whose limit and whose request it was."""
    request = ExportLogsServiceRequest.FromString(encode_log(enrich_no_victim(NO_VICTIM, 7, HOST)))
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    attributes = attributes_to_dict(record.attributes)
    assert (record.event_name, record.trace_id) == ("oom.no_victim", b"")
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_ERROR
    assert attributes["oom.limit.memcg.path"] == "/docker"
    assert (attributes["oom.trigger.pid"], attributes["oom.decision.repeat_count"]) == (99, 3)
    assert "process.pid" not in attributes
    for part in ("no killable process", "/docker", "64.0 MiB", "sidecar (pid 99)", "3 times"):
        assert part in record.body.string_value


def test_the_kernels_own_report_is_told_whole_and_once() -> None:
    """However long it is, the log event has it; the span, which bears its id, does without."""
    text = "line\n" * 5000
    told = sample_enriched_kill(original=text)
    record = kernel_events.kill_record(told).log_record
    assert record.attributes is not None
    assert record.attributes["log.record.original"] == text
    assert "log.record.original" not in (kill_span(told).attributes or {})
    plain_record = kernel_events.kill_record(sample_enriched_kill()).log_record
    assert "log.record.original" not in (plain_record.attributes or {})


def test_a_panic_is_an_event_of_its_host() -> None:
    """It is FATAL, has no span, and its whole text; what went down is the host, not one service."""
    request = ExportLogsServiceRequest.FromString(encode_log(enrich_panic(PANIC, 7, HOST)))
    (group,) = request.resource_logs
    (record,) = group.scope_logs[0].log_records
    attributes = attributes_to_dict(record.attributes)
    assert (record.event_name, record.trace_id) == ("oom.panic", b"")
    assert record.time_unix_nano == PANIC.time_unix_ns
    assert record.severity_number == SeverityNumber.SEVERITY_NUMBER_FATAL
    assert attributes["log.record.uid"] == PANIC.uid
    assert attributes["log.record.original"] == PANIC.original
    assert attributes["oom.panic.boot_id"] == PANIC.boot_id
    assert (attributes["oom.trigger.tid"], attributes["oom.decision.origin"]) == (100, "memcg")
    assert attributes_to_dict(group.resource.attributes) == {
        **HOST_ATTRIBUTES,
        "service.name": "unknown_service",
    }
    for part in ("panicked", str(PANIC.message), "64.0 MiB", "/docker", "sidecar (thread 100)"):
        assert part in record.body.string_value


def test_a_panic_of_which_little_is_known_is_told_as_such() -> None:
    """What nobody kept is absent, and the sentence does without."""
    bare = replace(
        PANIC, boot_id="", message=None, tid=None, comm=None, trigger=None, decision=None, stack=()
    )
    told = ExportLogsServiceRequest.FromString(encode_log(enrich_panic(bare, 7, HOST)))
    record = told.resource_logs[0].scope_logs[0].log_records[0]
    assert set(attributes_to_dict(record.attributes)) == {
        "log.record.uid",
        "log.record.original",
        "oom.capture.source",
        "oom.capture.hook",
        "oom.time.source",
    }
    assert record.body.string_value.endswith(
        "the host was out of memory when a process requested memory."
    )


def test_the_sentence_says_whose_limit_it_was() -> None:
    """The victim's own, an ancestor's, its pod's, or the host's memory."""
    assert "below /docker, which reached its limit of 64.0 MiB" in kill_body(sample_enriched_kill())
    assert KILL.decision is not None
    own = replace(KILL.decision, memcg=KILL.memcg)
    assert " reached its limit of 64.0 MiB" in kill_body(sample_enriched_kill(decision=own))
    host = replace(KILL.decision, memcg=None, constraint="cpuset")
    assert "the host was out of memory on the nodes of its cpuset" in kill_body(
        sample_enriched_kill(decision=host)
    )


def test_resource_and_scope() -> None:
    """The resource is the victim's alone, the agent is the scope, and both name their schema."""
    request = ExportLogsServiceRequest.FromString(encode_log(sample_enriched_kill()))
    (group,) = request.resource_logs
    assert attributes_to_dict(group.resource.attributes) == dict(sample_enriched_kill().resource)
    (scope,) = group.scope_logs
    assert (scope.scope.name, scope.scope.version) == ("otel_oom", __version__)
    assert group.schema_url == scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"


def test_requests_join_to_one() -> None:
    """Messages stored one by one are one valid request when they are sent together."""
    joined = encode_log(sample_enriched_kill()) + encode_log(sample_enriched_kill(number=1))
    request = ExportLogsServiceRequest.FromString(joined)
    uids = [
        attributes_to_dict(record.attributes)["log.record.uid"]
        for group in request.resource_logs
        for record in group.scope_logs[0].log_records
    ]
    assert uids == [KILL.uid, sample_enriched_kill(number=1).event.uid]


def test_the_sentence_says_who_where_and_how_much() -> None:
    """One sentence with the victim, its container, its memory, its limit and who asked."""
    text = kill_body(sample_enriched_kill())
    for part in (
        "java",
        "pid 4711",
        CONTAINER_ID[:12],
        "53.0 MiB",
        "64.0 MiB",
        "sidecar",
        "pid 99",
    ):
        assert part in text
    assert text.endswith(".")
    assert len(re.findall(r"\.(?:\s|$)", text)) == 1


def test_the_sentence_names_the_trigger_only_where_it_is_another() -> None:
    """Who asked for what is said, as far as it is known, and by which call."""
    requested = "requested shared memory or tmpfs by write()."
    assert kill_body(sample_enriched_kill()).endswith(f"; sidecar (pid 99) {requested}")
    assert kill_body(sample_enriched_kill(trigger=KILL.victim)).endswith(f"; it {requested}")
    assert kill_body(sample_enriched_kill(stack=())).endswith(
        "; sidecar (pid 99) requested memory."
    )
    assert "requested" not in kill_body(sample_enriched_kill(trigger=KILL.victim, stack=()))


def test_sizes_are_readable() -> None:
    """Bytes are told in the largest unit that leaves at least one."""
    sizes = {0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 52 << 20: "52.0 MiB", 3 << 50: "3.0 PiB"}
    assert {count: format_bytes(count) for count in sizes} == sizes


def test_resident_memory_is_what_the_kernel_scores() -> None:
    """Anonymous, file and shared pages are resident; swap and page tables are not."""
    memory = Memory(total_vm=1, anon=2, file=4, shmem=8, swap=16, page_tables=32)
    assert memory.resident == 14


def test_an_exit_is_on_the_kills_own_clock() -> None:
    """A step of the wall clock between mark and exit cannot turn a span around."""
    stepped = replace(KILL, time_unix_ns=KILL.time_unix_ns - 10**12)
    told = span(replace(sample_enriched_kill(), event=stepped))
    took = told.end_time_unix_nano - told.start_time_unix_nano
    assert took == EXIT.boottime_ns - KILL.boottime_ns
