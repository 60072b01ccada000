"""Resource detectors of the user, installed by the entry points of a package."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.stats import Stats
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import read_otlp_config
from otel_oom.enrich.resource_detectors import GROUP, detect_resource
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import Store
from tests.testlib.samples.events import KILL
from tests.testlib.servers.backend import attributes_to_dict

MODULE = """
import time

from opentelemetry.sdk.resources import Resource, ResourceDetector


class Cloud(ResourceDetector):
    def detect(self):
        return Resource({
            "cloud.provider": "example", "cloud.region": "north-1", "host.id": "i-0123",
            "service.name": "agent", "process.pid": 1, "container.id": "agent",
        })


class Other(ResourceDetector):
    def detect(self):
        return Resource({"cloud.region": "south-1"})


class Failing(ResourceDetector):
    def detect(self):
        raise ConnectionError("no route to the metadata server")


class Hanging(ResourceDetector):
    def detect(self):
        time.sleep(60)
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with detectors, on the path as an installed one is."""
    site = tmp_path / "site"
    info = site / "some_cloud-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "some_cloud.py").write_text(MODULE, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-cloud\nVersion: 1.0\n")
    names = ("Cloud", "Other", "Failing", "Hanging")
    lines = [f"test_{name.lower()} = some_cloud:{name}" for name in names]
    lines.append("test_missing = some_cloud_that_is_gone:X")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(site)


def test_later_detectors_win() -> None:
    assert detect_resource(["test_cloud", "test_other"])["cloud.region"] == "south-1"
    assert detect_resource(["test_other", "test_cloud"])["cloud.region"] == "north-1"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("test_failing", "Resource detector test_failing failed: ConnectionError: no route"),
        ("test_missing", "Resource detector test_missing failed: ModuleNotFoundError"),
        ("test_nowhere", "Resource detector 'test_nowhere' is not installed; installed: "),
        ("test_hanging", "Resource detector timed out after 0 s: test_hanging"),
    ],
)
def test_failing_detector_is_logged_and_skipped(
    name: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    detected = detect_resource(["test_other", name], 0.4 if name == "test_hanging" else 30.0)
    assert detected == {"cloud.region": "south-1"}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(says)


def test_no_detector_runs_by_default() -> None:
    assert read_otlp_config({}).detectors == ()
    read = read_otlp_config({"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel, test_cloud,"})
    assert read.detectors == ("test_cloud",)


def test_kills_have_the_detected_attributes_of_the_host(tmp_path: Path) -> None:
    config = read_otlp_config(
        {
            "OTEL_RESOURCE_ATTRIBUTES": "host.id=mine",
            "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "test_cloud",
            # Nobody listens there.
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        }
    )
    with Store(tmp_path) as store:
        store.insert(KILL, Snapshot(process_found=False))
        delivery = DeliveryPipeline(store, AgentConfig(config), Stats(), ContainerService())
        delivery.start()
        delivery.stop(30.0)
        (message,) = store.next_batch("logs", 10, 1 << 20)
    request = ExportLogsServiceRequest.FromString(message.payload)
    resource = attributes_to_dict(request.resource_logs[0].resource.attributes)
    assert resource["cloud.provider"] == "example"
    assert resource["host.id"] == "mine"
    assert resource["service.name"] != "agent"
    assert resource["container.id"] != "agent"
    assert "process.pid" not in resource


def test_node_name_comes_from_its_variable() -> None:
    """``OTEL_RESOURCE_ATTRIBUTES`` precedes ``K8S_NODE_NAME``."""
    assert read_otlp_config({"K8S_NODE_NAME": "node-1"}).resource == {"k8s.node.name": "node-1"}
    both = {"K8S_NODE_NAME": "node-1", "OTEL_RESOURCE_ATTRIBUTES": "k8s.node.name=node-2"}
    assert read_otlp_config(both).resource == {"k8s.node.name": "node-2"}
