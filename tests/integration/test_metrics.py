"""The agent's metrics on the wire: what a real Collector accepts, compared with the registry."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, Self

import pytest
from opentelemetry.metrics import Counter, Histogram, Meter, ObservableGauge, UpDownCounter
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.semconv._incubating.metrics import otel_metrics, process_metrics

from otel_oom.agent.encoder import EventEncoder
from otel_oom.agent.enricher import EventEnricher
from otel_oom.agent.metrics.instruments import Metrics
from otel_oom.agent.stats import Stats
from otel_oom.capture.source import Handler
from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.config.metrics import read_metrics_config
from otel_oom.config.otlp import read_otlp_config
from otel_oom.config.store import StoreLimits
from otel_oom.enrich.host import host_attributes
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.loss import LostEvents
from otel_oom.store import OutboxEntry, Store, database_file
from otel_oom.store.counters import NO_BOOT
from otel_oom.store.database_file import NAME
from tests.testlib.plugins import add_package
from tests.testlib.registry import load_registry
from tests.testlib.samples.events import HOST, KILL, SNAPSHOT, sample_kill
from tests.testlib.servers.metrics import MetricsBackend
from tests.testlib.servers.recorder import Recorder
from tests.testlib.wait import wait_until

LIMIT_S = 30.0
SOON = {"OTEL_METRIC_EXPORT_INTERVAL": "100"}
"""For who waits for an export. It is the SDK's deadline of a collection, too, which a busy machine
can miss."""


class Buffer:
    """The buffer of a source."""

    name = hook = decision_source = "scripted"
    pinned = False
    buffer_bytes = 4096

    def __enter__(self) -> Self:
        """Nothing is to be attached."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nor detached."""

    def fileno(self) -> int:
        """Nobody waits."""
        return -1

    def drain(self, _handler: Handler) -> int:
        """Nothing comes."""
        return 0

    def lost_events(self) -> LostEvents:
        """Nothing is lost."""
        return LostEvents()

    def buffered_bytes(self) -> int:
        """The same always."""
        return 96


@contextmanager
def run_metrics(
    store: Store, environ: Mapping[str, str], counts: Stats | None = None
) -> Iterator[Metrics]:
    """Run the metrics of ``store`` as ``environ`` configures them; they are exported at the end."""
    read = read_metrics_config(environ)
    assert read is not None
    kills = read_otlp_config(environ)
    resource = {**host_attributes(), **kills.resource}
    metrics = Metrics(read, resource, kills.endpoints, counts or Stats(Buffer()), store)
    try:
        yield metrics
    finally:
        metrics.stop(5.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Open an empty store."""
    with Store(tmp_path / "state") as opened:
        yield opened


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_real_collector_accepts_them(store: Store, recorder: Recorder, protocol: str) -> None:
    """By either protocol; their resource is the agent."""
    collector = recorder.collector
    url = collector.http if protocol == "http/protobuf" else f"http://{collector.grpc}"
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_RESOURCE_ATTRIBUTES": f"deployment.environment.name={protocol[:4]}",
        **SOON,
    }

    def mine() -> list[Any]:
        return [
            resource
            for request in recorder.requests()
            for resource in request.get("resourceMetrics", [])
            if {"key": "deployment.environment.name", "value": {"stringValue": protocol[:4]}}
            in resource["resource"]["attributes"]
        ]

    with run_metrics(store, environ):
        wait_until(mine, "the Collector has them", limit=LIMIT_S)
    attributes = {
        attribute["key"]: attribute["value"].get("stringValue")
        for attribute in mine()[0]["resource"]["attributes"]
    }
    assert attributes["service.name"] == "otel-oom"
    assert attributes["host.name"] == host_attributes()["host.name"]
    assert attributes["service.instance.id"] == attributes.get("host.id", attributes["host.name"])
    (scope,) = mine()[0]["scopeMetrics"]
    assert scope["scope"]["name"] == "otel_oom"
    assert "oom.kills" in {metric["name"] for metric in scope["metrics"]}


def _instrument(metric: Metric) -> str:
    """Return the instrument of a metric, as far as OTLP says it."""
    kind = str(metric.WhichOneof("data"))
    if kind == "sum":
        return "counter" if metric.sum.is_monotonic else "updowncounter"
    return kind


def test_each_metric_is_as_the_registry_has_it(store: Store) -> None:
    """None of the registry's metrics is missing; of others the test fails anyway."""
    groups = load_registry().groups.values()
    registered = {group["metric_name"] for group in groups if group["type"] == "metric"}
    counts = Stats(Buffer())
    backend = MetricsBackend()
    encoder = EventEncoder(EventEnricher(HOST, ContainerService(), "this boot"))
    store.insert(KILL, SNAPSHOT)
    store.enqueue([encoder.encode(row) for row in store.pending_events(1, KILL.boot_id, 1 << 62)])
    with Receiver(backend) as receiver:
        with run_metrics(store, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, counts) as metrics:
            metrics.add_processing(["redact"])
            counts.processor_errors["redact", "KeyError"] += 1
            assert counts.record_delays
            counts.record_delays("logs", [0.003])
            assert counts.record_request
            counts.record_request("logs", 0.003, "")
        assert backend.metrics().keys() == registered | load_registry().imported_metrics


ITEM_METRICS = {
    *("exporter.{}.exported", "exporter.{}.inflight", "processor.{}.processed"),
    *("processor.{}.queue.capacity", "processor.{}.queue.size"),
}


def test_conventional_metrics_are_as_the_conventions_have_them(store: Store) -> None:
    """Names, instruments and units are those of the conventions' package."""
    meter: Meter = MeterProvider(shutdown_on_exit=False).get_meter("conventions")
    makers = (vars(otel_metrics) | vars(process_metrics)).items()
    made = {
        instrument.name: instrument
        for name, make in makers
        if name.startswith(("create_otel_sdk_", "create_process_"))
        for callbacks in [((),) if "callbacks" in signature(make).parameters else ()]
        for instrument in [make(meter, *callbacks)]
    }
    counts, backend = Stats(Buffer()), MetricsBackend()
    with Receiver(backend) as receiver:
        with run_metrics(store, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, counts):
            assert counts.record_request
            counts.record_request("logs", 0.003, "503")
        sent = backend.metrics()
    theirs = {
        name: metric for name, metric in sent.items() if name.startswith(("otel.", "process."))
    }
    assert {name for name in theirs if name.startswith("otel.")} == {
        *(f"otel.sdk.{name.format(item)}" for name in ITEM_METRICS for item in ("log", "span")),
        "otel.sdk.exporter.operation.duration",
        "otel.sdk.log.created",
    }
    kinds = {
        "counter": Counter,
        "updowncounter": UpDownCounter,
        "histogram": Histogram,
        "gauge": ObservableGauge,
    }
    for name, metric in theirs.items():
        assert isinstance(made[name], kinds[_instrument(metric)]), name
        assert metric.unit == made[name].unit, name
        for point in backend.points(name):
            if name.startswith(("otel.sdk.exporter.", "otel.sdk.processor.")):
                assert {"otel.component.name", "otel.component.type"} <= point.attributes.keys()


def test_capacity_is_what_fits_at_the_present_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full store has about as many messages as its capacity was said to be."""
    limits = StoreLimits(max_bytes=16 << 20)
    with Store(tmp_path / "state", limits) as store:
        monkeypatch.setattr(database_file, "SYNCED", "PRAGMA synchronous=OFF")  # nothing crashes
        log, number = os.urandom(6000), 0
        while not store.counters(NO_BOOT).get("dropped.logs"):
            kill = sample_kill(number)
            store.insert(kill, SNAPSHOT)
            (row,) = store.pending_events(1, kill.boot_id, 1 << 62)
            store.enqueue([OutboxEntry(row.id, kill.uid, log, log, end_log=log[:1000])])
            number += 1
        for signal in ("logs", "traces"):
            size, capacity = (
                store.stats.queue_depth(signal),
                store.stats.queue_capacity(signal, {"logs": 1, "traces": 1}),
            )
            assert size == pytest.approx(capacity, rel=0.4), (signal, size, capacity)


def test_an_event_that_is_captured_twice_counts_once() -> None:
    """The source hands it over again while the disk is full."""
    counts = Stats()
    for _ in range(3):
        counts.on_captured(KILL)
    counts.on_stored(KILL)
    assert counts.captured["kill"] == counts.stored["kill"] == 1


def test_exclusions_count_from_the_start_of_the_agent(store: Store) -> None:
    store.set_counters("", {"excluded.OTEL_OOM_EXCLUDE": 7})
    counts, backend = Stats(), MetricsBackend()
    with Receiver(backend) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_metrics(store, environ, counts) as metrics:
            metrics.add_processing(["OTEL_OOM_EXCLUDE", "redact"])
            store.set_counters("", {"excluded.OTEL_OOM_EXCLUDE": 9})
            counts.processor_errors["redact", "timeout"] += 1
        excluded = backend.points("otel_oom.event.excluded")
        failed = backend.points("otel_oom.processor.failed")
    assert {point.attributes["otel_oom.processor.name"]: point.value for point in excluded} == {
        "OTEL_OOM_EXCLUDE": 2,
        "redact": 0,
    }
    assert [(point.attributes, point.value) for point in failed] == [
        ({"otel_oom.processor.name": "redact", "error.type": "timeout"}, 1)
    ]


def test_deltas_of_kills_survive_an_outage(store: Store) -> None:
    """Each kill is in one accepted delta, although the backend fails in between."""
    answers: list[Reply | None] = [Reply(503)]
    backend = MetricsBackend(answer=lambda: answers[0])
    with Receiver(backend) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
        }
        with run_metrics(store, environ):
            store.set_counters("", {'kills.{"oom.outcome": "killed"}': 3})
        answers[0] = None
        for count in (4, 5):
            with run_metrics(store, environ):
                store.set_counters("", {'kills.{"oom.outcome": "killed"}': count})
    accepted = sum(
        point.value
        for number in range(len(backend.requests))
        for point in backend.points("oom.kills", number)
    )
    assert accepted == 5


def test_an_unreadable_store_is_logged_and_ends_nothing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The reader goes on, and exports again once the store is readable."""
    backend = MetricsBackend()
    with Receiver(backend) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **SOON}
        with run_metrics(store, environ), caplog.at_level("INFO"):
            wait_until(lambda: backend.requests, "the first come", limit=LIMIT_S)
            file = store.path / NAME
            # A store that fails in earnest, as another program can make it.
            with closing(sqlite3.connect(file)) as other:
                other.execute("ALTER TABLE counters RENAME TO gone")
            wait_until(lambda: "can't be read" in caplog.text, "it is said", limit=LIMIT_S)
            with closing(sqlite3.connect(file)) as other:
                other.execute("ALTER TABLE gone RENAME TO counters")
            backend.next()
    assert "Traceback" not in caplog.text
    assert sqlite3.Error.__name__ not in caplog.text


METRICS_RECORDER = """
import os
from pathlib import Path
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricReader

class Metrics(MetricExporter):
    def export(self, metrics_data, timeout_millis=10000, **kwargs):
        with Path(os.environ["RECORDER_FOLDER"], "names").open("a") as names:
            for resource in metrics_data.resource_metrics:
                for scope in resource.scope_metrics:
                    names.writelines(metric.name + chr(10) for metric in scope.metrics)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=10000):
        return True

    def shutdown(self, timeout_millis=30000, **kwargs):
        pass

class Pulled:
    pass
"""


def test_installed_exporters_get_the_metrics_beside_otlp(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The count of kills among them. One that can't be used is logged, and affects no other."""
    groups = ["opentelemetry_metrics_exporter"]
    add_package(
        tmp_path / "a", "metrics_recorder", METRICS_RECORDER, dict.fromkeys(groups, "Metrics")
    )
    add_package(tmp_path / "b", "metrics_pulled", METRICS_RECORDER, dict.fromkeys(groups, "Pulled"))
    for folder in ("a", "b"):
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    monkeypatch.setenv("RECORDER_FOLDER", str(tmp_path))
    backend = MetricsBackend()

    def sent() -> set[str]:
        return set(backend.metrics() if backend.requests else ())

    def recorded() -> set[str]:
        names = tmp_path / "names"
        return set(names.read_text().split()) if names.exists() else set()

    with Receiver(backend) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_METRICS_EXPORTER": "otlp,metrics_pulled,metrics_recorder",
            **SOON,
        }
        with run_metrics(store, environ):
            # Each exporter is called in its own time, and some metrics begin with a first call.
            wait_until(
                lambda: "oom.kills" in sent() and recorded() == sent(), "both exporters' metrics"
            )
    assert "metrics_pulled is a pull exporter" in caplog.text
