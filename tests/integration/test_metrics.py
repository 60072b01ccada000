"""The agent's metrics on the wire: what a real Collector accepts, compared with the registry."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from opentelemetry.metrics import Counter, Meter, UpDownCounter
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.semconv._incubating.metrics import otel_metrics

from otel_oom.agent.metrics.instruments import Metrics
from otel_oom.agent.stats import Stats
from otel_oom.capture.source import Handler
from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.config.metrics import read_metrics_config
from otel_oom.config.otlp import read_otlp_config
from otel_oom.enrich.host import host_attributes
from otel_oom.model.loss import LostEvents
from otel_oom.otlp import semconv
from otel_oom.store import Store
from otel_oom.store.database_file import NAME
from tests.testlib.samples.events import KILL
from tests.testlib.servers.metrics import MetricsBackend
from tests.testlib.servers.recorder import Recorder
from tests.testlib.wait import wait_until

REGISTRY = Path(semconv.__file__).with_name("registry.yaml")
LIMIT_S = 30.0


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
    """Run the metrics of ``store`` as ``environ`` configures them."""
    environ = {"OTEL_METRIC_EXPORT_INTERVAL": "100", **environ}
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
    """Instrument, unit and attributes; none of the registry's metrics is missing."""
    groups = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))["groups"]
    registered = {group["metric_name"]: group for group in groups if group["type"] == "metric"}
    counts = Stats(Buffer())
    backend = MetricsBackend()
    with Receiver(backend) as receiver:
        with run_metrics(store, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, counts):
            assert counts.record_delays
            counts.record_delays("logs", [0.003])
        sent = backend.metrics()
    ours = {name: metric for name, metric in sent.items() if not name.startswith("otel.")}
    assert ours.keys() == registered.keys()
    for name, metric in ours.items():
        group = registered[name]
        assert _instrument(metric) == group["instrument"], name
        assert metric.unit == group["unit"], name
        allowed = {attribute["ref"] for attribute in group.get("attributes", [])}
        needed = {
            attribute["ref"]
            for attribute in group.get("attributes", [])
            if attribute.get("requirement_level") == "required"
        }
        for point in backend.points(name):
            assert needed <= point.attributes.keys() <= allowed, name


def test_otel_sdk_metrics_are_as_the_conventions_have_them(store: Store) -> None:
    """Names, instruments and units are those of the conventions' package."""
    meter: Meter = MeterProvider(shutdown_on_exit=False).get_meter("conventions")
    made = {
        instrument.name: instrument
        for name, make in vars(otel_metrics).items()
        if name.startswith("create_otel_sdk_") and not name.endswith("_count")
        for instrument in [make(meter)]
    }
    backend = MetricsBackend()
    with Receiver(backend) as receiver:
        with run_metrics(store, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}):
            pass
        sent = backend.metrics()
    theirs = {name: metric for name, metric in sent.items() if name.startswith("otel.")}
    assert theirs
    for name, metric in theirs.items():
        kind = {"counter": Counter, "updowncounter": UpDownCounter}[_instrument(metric)]
        assert isinstance(made[name], kind), name
        assert metric.unit == made[name].unit, name
        for point in backend.points(name):
            assert {"otel.component.name", "otel.component.type"} <= point.attributes.keys()


def test_an_event_that_is_captured_twice_counts_once() -> None:
    """The source hands it over again while the disk is full."""
    counts = Stats()
    for _ in range(3):
        counts.on_captured(KILL)
    counts.on_stored(KILL)
    assert counts.captured["kill"] == counts.stored["kill"] == 1


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
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
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
