"""The parts of `make bench-fleet` that need no server."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.config.endpoint import HTTP, Endpoint
from otel_oom.export import retry
from otel_oom.export.exporter import SignalExporter
from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.export.retry import RetryGate
from otel_oom.store import Store
from tests.bench.fleet import schedule
from tests.bench.fleet.herd import Herd, draw_first_failures, simulate_outage, summarize
from tests.bench.fleet.host import SIGNALS, Attempt, LossyTransport, SimulatedHost
from tests.bench.fleet.measure import FleetResult
from tests.bench.fleet.recording import RECORDED, Kill, Recording
from tests.bench.fleet.schedule import advance_hosts
from tests.bench.fleet.table import format_estimate, format_herds, format_results
from tests.bench.fleet.wire import Wire, count_request_bytes
from tests.testlib.servers.backend import attributes_to_dict

NOW_NS = 1_800_000_000 * 10**9
HERD = Herd(1000, peak_per_s=40, mean_per_s=20, took_s=50, tries_per_s=33)
RESULT = FleetResult(
    hosts=1000,
    kills=5000,
    requests=9000,
    kill_cpu_s=10,
    stored_bytes=20_200_000,
    without_host_bytes=10_100_000,
    rows=5050,
    duplicates=50,
    exports=2000,
    export_cpu_s=5,
    series=160_000,
    prometheus_mb=480,
    gateway_mb=200,
    rejected=0,
    lost=0,
    real=HERD,
    model=HERD,
    hour_at_once=HERD,
    hour_spread=HERD,
)


class Accepting:
    """A transport that accepts all."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def send(self, body: bytes) -> ExportResponse:
        """Accept."""
        self.bodies.append(body)
        return ExportResponse(ExportResult.ACCEPTED)

    def close(self) -> None:
        """Nothing is open."""


def parse_log(kill: Kill) -> list[tuple[dict[str, Any], Any, dict[str, Any]]]:
    """Return resource, log record and attributes of both log events of a kill."""
    request = ExportLogsServiceRequest.FromString(kill.messages["logs"])
    return [
        (attributes_to_dict(group.resource.attributes), each, attributes_to_dict(each.attributes))
        for group in request.resource_logs
        for scope in group.scope_logs
        for each in scope.log_records
    ]


def test_each_host_sends_the_recorded_kill_as_its_own() -> None:
    recording = Recording()
    kills = [recording.encode_kill(host, number, NOW_NS) for host in (1, 2) for number in (0, 1)]
    assert len({kill.uid for kill in kills}) == 4
    (resource, log, attributes), (_, end, end_attributes) = parse_log(kills[0])
    span_request = ExportTraceServiceRequest.FromString(kills[0].messages["traces"])
    span = span_request.resource_spans[0].scope_spans[0].spans[0]
    assert (log.event_name, end.event_name) == ("oom.kill", "oom.victim.exited")
    assert log.time_unix_nano == span.start_time_unix_nano == NOW_NS
    assert log.trace_id == end.trace_id == span.trace_id
    assert len(log.trace_id) == 16
    assert attributes["log.record.uid"] == attributes["oom.incident.id"] == kills[0].uid
    assert end_attributes["oom.kill.id"] == kills[0].uid != end_attributes["log.record.uid"]
    assert attributes_to_dict(span.attributes)["process.pid"] == attributes["process.pid"]
    assert resource["host.name"] == "node-000001"
    others = [parse_log(kill)[0] for kill in kills[1:]]
    assert [other["host.name"] for other, _, _ in others] == [
        *("node-000001", "node-000002", "node-000002")
    ]
    assert len({other["k8s.pod.uid"] for other, _, _ in others}) == 3
    # A store would compress equal reports to nothing.
    reports = {each["log.record.original"] for _, _, each in others}
    assert len(reports) == 3


def test_a_kill_has_all_that_was_recorded() -> None:
    lines = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
    (logs,) = [line["resourceLogs"] for line in lines if "resourceLogs" in line]
    recorded = logs[0]["scopeLogs"][0]["logRecords"][0]["attributes"]
    _, _, attributes = parse_log(Recording().encode_kill(7, 0, NOW_NS))[0]
    assert list(attributes) == [each["key"] for each in recorded]


def test_metrics_are_those_of_the_host() -> None:
    recording = Recording()
    requests = [
        ExportMetricsServiceRequest.FromString(recording.encode_metrics(host, NOW_NS + host))
        for host in (1, 2)
    ]
    resources = [
        attributes_to_dict(each.resource_metrics[0].resource.attributes) for each in requests
    ]
    assert len({each["service.instance.id"] for each in resources}) == 2
    assert [each["host.name"] for each in resources] == ["node-000001", "node-000002"]
    assert all(each["host.id"] == each["service.instance.id"] for each in resources)
    kills = requests[1].resource_metrics[0].scope_metrics[0].metrics[0]
    assert kills.name == "oom.kills"
    assert {point.time_unix_nano for point in kills.sum.data_points} == {NOW_NS + 2}


def test_hosts_are_counted_by_the_second_of_their_return() -> None:
    herd_ = summarize([0.1, 0.9, 1.5, 9.5], 7.0)
    assert herd_ == Herd(4, peak_per_s=2.0, mean_per_s=0.4, took_s=10.0, tries_per_s=7.0)
    assert herd_.peak_to_mean == 5.0


def test_no_herd_comes_back_after_an_outage() -> None:
    """Full jitter up to 60 s: a thirtieth of the hosts in the first second, twice the mean.

    All hosts fail at the same moment. Four standard deviations are added to that.
    """
    random.seed(7)
    hosts = 200
    returned = simulate_outage(draw_first_failures(hosts, 400, at_once=True), 400)
    assert returned.hosts == hosts
    assert returned.took_s <= 60
    assert returned.peak_per_s <= hosts / 30 + 4 * (hosts / 30) ** 0.5
    assert returned.tries_per_s == pytest.approx(hosts / 30, rel=0.2)


def test_hosts_without_jitter_would_be_a_herd(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation sees one."""
    monkeypatch.setattr(random, "uniform", lambda _, last: last)
    returned = simulate_outage([0.0] * 50, 600)
    assert returned.peak_per_s == 50


def test_first_failures_are_within_the_outage() -> None:
    assert draw_first_failures(3, 60, at_once=True) == [0.0] * 3
    times = draw_first_failures(100, 60, at_once=False)
    assert min(times) < 10
    assert 50 < max(times) < 60


def test_a_lost_response_is_a_duplicate(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real exporter: the same message once more, and nothing is left."""
    monkeypatch.setattr(random, "uniform", lambda *_: 0.0)
    transports = {signal: Accepting() for signal in SIGNALS}
    attempts: list[Attempt] = []

    def make_exporters(store: Store, gate: RetryGate) -> Sequence[SignalExporter]:
        return [
            SignalExporter(
                store,
                Endpoint(signal, HTTP, "http://gateway.example"),
                LossyTransport(transports[signal], 5, signal == "logs", attempts.append),
                gate,
            )
            for signal in SIGNALS
        ]

    def encode() -> tuple[str, Mapping[str, bytes]]:
        return "uid", {"logs": b"log", "traces": b"span"}

    host = SimulatedHost([(0.0, encode)], make_exporters)
    assert host.advance() == float("inf")
    assert transports["logs"].bodies == [b"log", b"log"]
    assert transports["traces"].bodies == [b"span"]
    assert [(each.host, each.size, each.accepted) for each in attempts] == [
        *((5, 3, True), (5, 3, True), (5, 4, True))
    ]
    assert len(host.outbox) == 0


class Steps:
    """A host with steps at given times; the last one may fail."""

    def __init__(self, times_s: list[float], done_s: list[float], *, fails: bool = False) -> None:
        self.times_s = times_s
        self.done_s = done_s
        self.fails = fails
        self.closed = False

    def advance(self) -> float:
        """Note the time; return that of the next step."""
        self.done_s.append(time.time())
        if self.fails:
            raise ValueError("failed")
        return self.times_s.pop(0) if self.times_s else float("inf")

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_hosts_are_advanced_when_their_steps_are_due() -> None:
    began = time.time()
    times_s: list[float] = []
    host = Steps([began + 0.03, began + 0.06], times_s)
    advance_hosts([host], began, began + 60)
    assert len(times_s) == 3
    assert times_s[1] >= began + 0.03
    assert times_s[2] >= began + 0.06
    assert host.closed


def test_hosts_end_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_CHECK_S", 0.01)
    now, times_s = time.time(), list[float]()
    advance_hosts([Steps([now + 3600], times_s)], now, now + 0.05)
    assert len(times_s) == 1


def test_a_failure_of_a_host_is_raised() -> None:
    """The numbers without it would be wrong."""
    now = time.time()
    with pytest.raises(ValueError, match="failed"):
        advance_hosts([Steps([], [], fails=True)], now, now + 60)


@pytest.mark.parametrize("gzip", [False, True])
def test_the_headers_of_a_request_count(gzip: bool) -> None:  # noqa: FBT001  a parameter
    body = b"x" * 10_000
    size = count_request_bytes("logs", body, gzip=gzip)
    assert (100 < size < 1000) if gzip else (10_100 < size < 11_000)


def test_the_tables_have_what_was_measured() -> None:
    table = format_results([RESULT])
    assert "| requests for that | 9,000 |" in table
    assert "| kills a second a core of gateway | 500 |" in table
    assert "| exports of metrics a second a core | 400 |" in table
    assert "| a kill at rest in VictoriaLogs, bytes | 4,000 |" in table
    assert "| the same without `host.name` in its streams | 2,000 |" in table
    assert "| duplicates, as every 20th host lost a response | 50 |" in table
    assert "| kills that VictoriaLogs has, by `log.record.uid` | 5,000 of 5,000 |" in table
    assert "| series in Prometheus | 160,000; 160 a host |" in table
    row = "| an hour, all hosts fail as it begins | 1,000 | 40 | 20.0 | 2.0 | 50 s | 33 |"
    assert row in format_herds([RESULT])


def test_more_hosts_follow_from_the_formulas() -> None:
    """100,000 hosts: 27.8 kills and 1,667 exports of metrics a second."""
    plain, gzip = Wire(log=10_000, span=5000, metrics=9000), Wire(1000, 500, 3000)
    table = format_estimate(RESULT, plain, gzip)
    assert "| N · (k / 86,400 / K + 1 / i / M) | 4.2, of which kills 0.06 |" in table
    assert "| 15.4 plain, 5.0 with gzip |" in table
    assert "| N · k · r | 9.6, 4.8 without `host.name` in streams |" in table
    assert "| N · s | 16.0 million |" in table
    assert "| N · s · p | 48 |" in table
    assert "| N / 30 / K | 6.7 |" in table


def test_the_clock_of_the_simulation_is_put_back() -> None:
    before = vars(retry)["time"]
    simulate_outage([0.0], 10)
    assert vars(retry)["time"] is before
