"""The gateway of the chart: its configuration in a real Collector."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.collector import Collector, run_collector, validate_configs
from tests.testlib.servers.helm import CHART, find_object, render_objects, require_helm, run_helm
from tests.testlib.servers.kube_api import run_kube_api
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.servers.sent_kill import SentKill
from tests.testlib.servers.vendors import VENDORS
from tests.testlib.servers.web import Json, http_get, http_post
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.servers

FILES = ("agent.yaml", "kubernetes.yaml", "gateway.yaml", "values.yaml")
OUTSIDE: Json = {"processors": {"k8s_attributes": {"auth_type": "kubeConfig"}}}
"""The tests do not run in a pod: the address of the API is in a file."""
LOG: Json = {
    "resourceLogs": [
        {"scopeLogs": [{"logRecords": [{"eventName": "oom.kill", "severityNumber": 21}]}]}
    ]
}


@pytest.fixture(scope="module", autouse=True)
def helm() -> None:
    require_helm()


def write_configs(folder: Path, **values: object) -> list[Path]:
    """Write the gateway's ConfigMap into ``folder``, in the order in which it is merged."""
    gateway = {"enabled": True, "backend": {"endpoint": "http://backend"}}
    objects = render_objects({"gateway": gateway, **values})
    data = find_object(objects, "ConfigMap", "otel-oom-gateway")["data"]
    (container,) = find_object(objects, "Deployment", "otel-oom-gateway")["spec"]["template"][
        "spec"
    ]["containers"]
    assert container["args"] == [f"--config=/etc/otelcol/{name}" for name in FILES]
    assert data.keys() == set(FILES)
    for name, content in data.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in FILES]


@pytest.fixture
def gateway(collector_binary: Path, tmp_path: Path) -> Iterator[tuple[Collector, str]]:
    """Run the gateway; yield it with the address of its backend, which does not run yet."""
    backend = f"{LOOPBACK}:{free_port()}"
    with (
        run_kube_api([], tmp_path) as kubeconfig,
        run_collector(
            collector_binary,
            *write_configs(tmp_path),
            OUTSIDE,
            env={"BACKEND_ENDPOINT": f"http://{backend}", "KUBECONFIG": str(kubeconfig)},
        ) as running,
    ):
        yield running, backend


@pytest.mark.parametrize("has_monitor", [False, True])
def test_the_collector_has_nothing_against_it(
    has_monitor: bool,  # noqa: FBT001
    collector_binary: Path,
    tmp_path: Path,
) -> None:
    files = write_configs(tmp_path, podMonitor={"enabled": has_monitor})
    environ = {"BACKEND_ENDPOINT": "http://127.0.0.1:9"}
    assert validate_configs(collector_binary, *files, env=environ) == ""


@pytest.mark.parametrize("name", ["dynatrace", "grafana-cloud", "aws"])
def test_a_vendors_file_fits_into_the_values(
    collector_binary: Path, tmp_path: Path, name: str
) -> None:
    """As docs/kubernetes.md says: without `file_storage`, since the gateway has no volume."""
    text = (REPOSITORY / f"collector-config/vendors/{name}.yaml").read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    if extensions := config.get("service", {}).get("extensions"):
        extensions.remove("file_storage")
    backend = {"endpoint": "https://not-used.example:443"}
    gateway = {"enabled": True, "backend": backend, "config": config}
    files = write_configs(tmp_path, gateway=gateway)
    tokens = dict.fromkeys(("GOOGLE_TOKEN_FILE", "AZURE_TOKEN_FILE"), str(files[0]))
    environ = {**VENDORS[name].environ, **tokens, "BACKEND_ENDPOINT": backend["endpoint"]}
    assert validate_configs(collector_binary, *files, env=environ) == ""


def test_the_gateway_accepts_nothing_that_the_backend_has_not(
    gateway: tuple[Collector, str], collector_binary: Path
) -> None:
    """It has no disk: what it does not deliver stays with the agent, whose request is retryable."""
    running, backend = gateway
    url = f"{running.http}/v1/logs"
    assert http_post(url, LOG).status == 503
    with run_recorder(collector_binary, env={"OTLP_HTTP_LISTEN": backend}) as sink:
        assert http_post(url, LOG).status == 200
        (log,) = wait_until(sink.logs, "the log", limit=30)
    assert log["eventName"] == "oom.kill"
    assert http_post(url, LOG).status == 503


def test_prometheus_finds_owner_and_node_in_the_agents_metrics(
    collector_binary: Path, tmp_path: Path
) -> None:
    """By the exporter that the PodMonitor's second port belongs to."""
    address = f"{LOOPBACK}:{free_port()}"
    kills = [SentKill(resource={"k8s.node.name": "node-1"}) for _ in range(2)]
    with (
        run_kube_api([], tmp_path) as kubeconfig,
        run_recorder(collector_binary) as sink,
        run_collector(
            collector_binary,
            *write_configs(tmp_path, podMonitor={"enabled": True}),
            OUTSIDE,
            {"exporters": {"prometheus": {"endpoint": address}}},
            env={"BACKEND_ENDPOINT": sink.collector.http, "KUBECONFIG": str(kubeconfig)},
        ) as gateway,
    ):
        for kill in kills:
            assert kill.send_metric(gateway).status == 200
        sent = wait_until(sink.metrics, "the metrics", limit=30) or []
        page = http_get(f"http://{address}/metrics").body.decode()
    for kill in kills:
        labels = rf'k8s_node_name="node-1".*service_name="{kill.service}"'
        assert re.search(rf"(?m)^oom_kills_total\{{.*{labels}.*\}} 1$", page), page
    (owner,) = sent[0]["sum"]["dataPoints"][0]["attributes"]  # the backend has what was sent
    assert owner["key"] == "service.name"


def test_the_packaged_chart_has_the_files_of_the_collector(tmp_path: Path) -> None:
    """They are links in the repository, and files for whoever has the chart alone."""
    run_helm("package", CHART, f"--destination={tmp_path}")
    (package,) = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        for name in ("agent.yaml", "kubernetes.yaml", "prometheus.yaml"):
            file = archive.extractfile(f"otel-oom/collector/{name}")
            assert file is not None
            assert file.read() == (REPOSITORY / "collector-config" / name).read_bytes()
