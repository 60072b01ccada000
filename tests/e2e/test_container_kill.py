"""The kill of a real container, through a real Collector, to real Jaeger and VictoriaLogs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.testlib.agent import run_agent
from tests.testlib.containers.podman import run_podman
from tests.testlib.kernel.oracle import KernelLog, KilledLine, wait_for_report_budget
from tests.testlib.servers.collector import Collector
from tests.testlib.servers.jaeger import Jaeger
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.victorialogs import Entry, VictoriaLogs
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

ARRIVES_S = 30.0


@dataclass(frozen=True)
class Story:
    """One kill as the runtime, the kernel, Jaeger and VictoriaLogs have it."""

    container: dict[str, Any]
    logged: KilledLine
    span: dict[str, Any]
    process: dict[str, Any]
    entry: Entry

    @property
    def tags(self) -> dict[str, Any]:
        """Return the span's tags in Jaeger."""
        return {tag["key"]: tag["value"] for tag in self.span["tags"]}

    @property
    def stages(self) -> list[tuple[str, int]]:
        """Return the span's events by their order, with their times in microseconds."""
        return [
            (field["value"], log["timestamp"])
            for log in sorted(self.span["logs"], key=lambda log: log["timestamp"])
            for field in log["fields"]
            if field["key"] == "event"
        ]


@pytest.fixture(scope="module", params=["http/protobuf", "grpc"])
def story(
    request: pytest.FixtureRequest,
    backends: Collector,
    jaeger: Jaeger,
    victorialogs: VictoriaLogs,
    tmp_path_factory: pytest.TempPathFactory,
) -> Story:
    """Kill a container, by HTTP and by gRPC."""
    protocol: str = request.param
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": backends.http
        if "http" in protocol
        else f"http://{backends.grpc}",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    name = f"oom-{protocol[:4]}"
    wait_for_report_budget(kills=1)
    with (
        run_podman() as runtime,
        KernelLog() as log,
        run_agent(tmp_path_factory.mktemp("a"), environ) as running,
    ):
        running.wait_until_watching()
        container = runtime.run_until_killed(name)
        query = f'container.id:="{container["Id"]}" event_name:="oom.kill"'
        (entry,) = wait_until(lambda: victorialogs.query(query), "the log", limit=ARRIVES_S)
        # The host may have kills of its own at the same time.
        pid = entry.fields["process.pid"]
        (logged,) = (killed for killed in log.read_killed_lines() if str(killed.pid) == pid)
        trace_id = entry.fields["trace_id"]
        trace = wait_until(lambda: jaeger.trace(trace_id), "the trace in Jaeger", limit=ARRIVES_S)
    assert trace is not None
    (span,) = trace["spans"]
    return Story(container, logged, span, trace["processes"][span["processID"]], entry)


def test_the_container_was_killed(story: Story) -> None:
    """By its exit code, and by the "Killed process" line of its first process.

    The runtime's OOMKilled depends on a shim that is quicker than the kill, and proves nothing.
    """
    assert story.container["State"]["ExitCode"] == 137
    assert story.logged.comm == "tail"


def test_victorialogs_has_the_event(story: Story) -> None:
    """By LogsQL: the event's name, the container, the victim as the kernel logged it."""
    fields = story.entry.fields
    assert fields["event_name"] == "oom.kill"
    assert fields["service.name"] == story.container["Name"]
    assert fields["container.id"] == story.container["Id"]
    assert fields["container.runtime.name"] == "podman"
    assert fields["process.pid"] == str(story.logged.pid)
    assert fields["oom.victim.comm"] == story.logged.comm
    assert fields["oom.victim.memory.anon"] == str(story.logged.anon * 1024)
    assert fields["oom.victim.memcg.limit"] == str(24 << 20)
    assert fields["severity_number"] == "21"
    assert fields["scope.name"] == "otel_oom"
    assert str(story.logged.pid) in story.entry.message
    assert story.container["Id"][:12] in story.entry.message


def test_the_elements_of_arrays_are_found(story: Story, victorialogs: VictoriaLogs) -> None:
    """By what the kernel logged: a frame of the stack, and the memory of the largest process."""
    resident = (story.logged.anon + story.logged.file + story.logged.shmem) * 1024
    conditions = (
        f'log.record.uid:="{story.entry.fields["log.record.uid"]}"',
        'oom.request.kernel_stack:"oom_kill_process"',
        'oom.request.gfp_flags:"GFP_KERNEL"',
        f"oom.largest_task.pid:={story.logged.pid}",
        f"oom.largest_task.memory.resident:={resident}",
    )
    assert len(victorialogs.query(" ".join(conditions))) == 1
    assert victorialogs.query(f'{conditions[0]} oom.request.kernel_stack:"no_such_function"') == []


def test_victorialogs_and_loki_have_the_end(
    story: Story, victorialogs: VictoriaLogs, loki_receiver: LokiReceiver
) -> None:
    """At the end of the span, in backends that have no spans."""
    uid = story.entry.fields["log.record.uid"]
    query = f'event_name:="oom.victim.exited" oom.kill.id:="{uid}"'
    (end,) = wait_until(lambda: victorialogs.query(query), "the end", limit=ARRIVES_S)
    span_end_us = story.span["startTime"] + story.span["duration"]
    assert abs(end.time // 1000 - span_end_us) <= 1
    assert end.fields["trace_id"] == story.entry.fields["trace_id"]
    assert end.fields["process.pid"] == str(story.logged.pid)
    assert end.fields["oom.victim.exit.signal"] == "9"
    (entry,) = loki_receiver.find(oom_kill_id=uid)
    assert entry.fields["oom_victim_exited"] == "true"


def test_the_stream_is_the_service_on_this_host(story: Story) -> None:
    """Not the container, which ends with the kill."""
    service, host = story.entry.fields["service.name"], story.entry.fields["host.name"]
    assert story.entry.stream == f'{{host.name="{host}",service.name="{service}"}}'


def test_victorialogs_has_the_kernels_own_report(story: Story) -> None:
    """From its first line on, where decisions come from the kernel log."""
    fields = story.entry.fields
    text = fields.get("log.record.original", "")
    assert bool(text) == (fields["oom.decision.source"] == "/dev/kmsg")
    if text:
        assert " invoked oom-killer: gfp_mask=" in text.splitlines()[0]
        assert f",pid={story.logged.pid}," in text


def test_victorialogs_has_the_kernels_time(story: Story) -> None:
    """The entry has the time of the kill, not of its arrival."""
    assert story.entry.time // 1000 == dict(story.stages)["oom.victim.marked"]
    assert abs(time.time_ns() - story.entry.time) < 600 * 10**9


def test_the_loki_receiver_stores_what_victorialogs_has(
    story: Story, loki_receiver: LokiReceiver
) -> None:
    """Within Loki's limits, each attribute under the name that Loki allows."""
    (entry,) = loki_receiver.find(log_record_uid=story.entry.fields["log.record.uid"])
    assert loki_receiver.rejections == []
    assert (entry.time, entry.line) == (story.entry.time, story.entry.message)
    own = {"severity_text"}  # VictoriaLogs' word for the number
    wanted = {n.replace(".", "_"): v for n, v in story.entry.fields.items() if n not in own}
    assert wanted.items() <= entry.fields.items()
    assert entry.labels.keys() == {"service_name", "container_name", "oom_event"}


def test_jaeger_has_the_span(story: Story) -> None:
    """An error under the container's name, with the victim and its container."""
    assert story.span["operationName"] == "oom.kill"
    assert story.process["serviceName"] == story.container["Name"]
    resource = {tag["key"]: tag["value"] for tag in story.process["tags"]}
    assert resource["container.id"] == story.container["Id"]
    assert story.tags["process.pid"] == story.logged.pid
    assert story.tags["oom.victim.comm"] == story.logged.comm
    assert story.tags["error"] is True
    assert story.tags["otel.scope.name"] == "otel_oom"


def test_jaeger_has_the_span_events(story: Story) -> None:
    """In order, from the approach to the limit; the span ends with the last."""
    stages = [stage for stage, _ in story.stages if stage != "oom.limit.approached"]
    assert stages == ["oom.victim.marked", "oom.victim.exited"]
    assert story.span["startTime"] == story.stages[0][1]
    assert story.span["duration"] > 0


def test_log_and_span_have_the_same_ids(story: Story) -> None:
    assert story.entry.fields["trace_id"] == story.span["traceID"]
    assert story.entry.fields["span_id"] == story.span["spanID"]
    assert story.entry.fields["log.record.uid"] == story.tags["log.record.uid"]
