"""collector-config/vendors/, each run by a real Collector with a server in place of the vendor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.testlib.process import LOOPBACK
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.collector import run_collector, validate_configs
from tests.testlib.servers.http_server import HttpServer, http_response
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.sent_kill import SentKill, wait_until_printed
from tests.testlib.servers.vendors import VENDORS, Vendor
from tests.testlib.wait import wait_until

FOLDER = REPOSITORY / "collector-config"
AGENT, GATEWAY, KUBERNETES, LOKI = (
    FOLDER / f"{name}.yaml" for name in ("agent", "gateway", "kubernetes", "loki")
)
PRINTED = {"logs": "was killed", "traces": "{service}", "metrics": "oom.kills"}


def vendor_file(name: str) -> Path:
    return FOLDER / f"vendors/{name}.yaml"


def environ(vendor: Vendor, folder: Path) -> dict[str, str]:
    """Return the variables of a vendor's file; tokens that change are in a file."""
    token = folder / "token"
    token.write_text("TOKEN\n", encoding="utf-8")
    files = dict.fromkeys(("GOOGLE_TOKEN_FILE", "AZURE_TOKEN_FILE"), str(token))
    return {**vendor.environ, **files, "QUEUE_DIRECTORY": str(folder / "queue")}


def endpoints(name: str, variables: dict[str, str]) -> dict[str, str]:
    """Return the endpoints in a vendor's file by their keys, as the Collector expands them."""
    exporter = yaml.safe_load(vendor_file(name).read_text("utf-8"))["exporters"]["otlp_http"]

    def expand(match: re.Match[str]) -> str:
        return variables.get(match[1], match[2] or "")

    return {
        key: re.sub(r"\$\{env:(\w+)(?::-([^}]*))?\}", expand, value)
        for key, value in exporter.items()
        if key.endswith("endpoint")
    }


def test_each_vendor_has_a_file_and_each_file_a_vendor() -> None:
    assert {path.stem for path in (FOLDER / "vendors").iterdir()} == VENDORS.keys()


@pytest.mark.parametrize("name", VENDORS)
def test_a_vendors_file_is_valid_without_a_warning(
    collector_binary: Path, tmp_path: Path, name: str
) -> None:
    """Over gateways with the processors of a cluster."""
    variables = environ(VENDORS[name], tmp_path) | {"BACKEND_ENDPOINT": ""}
    files = (GATEWAY, KUBERNETES, vendor_file(name))
    assert validate_configs(collector_binary, *files, env=variables) == ""


@pytest.mark.parametrize("name", VENDORS)
def test_the_comment_names_each_variable(name: str) -> None:
    text = vendor_file(name).read_text("utf-8")
    comment = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for variable in re.findall(r"\$\{env:(\w+)", text):
        assert f"{variable}=" in comment or f"{variable} " in comment, variable


@pytest.mark.parametrize("name", VENDORS)
def test_a_kill_arrives_at_the_vendors_paths_with_its_headers(
    collector_binary: Path, tmp_path: Path, name: str
) -> None:
    """A signal that the vendor does not receive is printed, and accepted from the sender."""
    vendor, kill = VENDORS[name], SentKill()
    variables = environ(vendor, tmp_path)
    with HttpServer() as server:
        documented = endpoints(name, variables)
        at_home: dict[str, Any] = {
            key: f"{server.url}{urlsplit(url).path}" for key, url in documented.items()
        }
        overlay = {"exporters": {"otlp_http": at_home}}
        if vendor.is_signed:  # otherwise the service follows from the host
            overlay["extensions"] = {"sigv4auth": {"service": "logs"}}
        files = (AGENT, vendor_file(name), overlay)
        with run_collector(collector_binary, *files, env=variables) as collector:
            kill.send(collector)
            assert kill.send_metric(collector).status == 200
            paths = {urlsplit(url).path for url in vendor.urls.values()}
            wait_until(lambda: paths <= {r.target for r in server.requests}, "the requests")
            words = [
                text.format(service=kill.trace_id)
                for signal, text in PRINTED.items()
                if signal not in vendor.urls
            ]
            printed = wait_until_printed(collector, *words)
    assert "deprecated" not in printed
    assert {request.target for request in server.requests} == paths
    for request in server.requests:
        sent = {key: request.headers[key] for key in vendor.headers}
        if vendor.is_signed:
            assert sent.pop("Authorization").startswith("AWS4-HMAC-SHA256 Credential=KEY/")
        assert sent.items() <= vendor.headers.items()
    for secret in ("glc_token", "TOKEN", "SECRET"):
        assert secret not in printed


def test_grafana_cloud_gets_the_names_of_events_as_loki_does(
    collector_binary: Path, tmp_path: Path, loki_receiver: LokiReceiver
) -> None:
    """By the text of loki.yaml; other logs of the victim stay as they are."""
    texts = [yaml.safe_load(f.read_text("utf-8")) for f in (vendor_file("grafana-cloud"), LOKI)]
    assert texts[0]["processors"] == texts[1]["processors"]
    kill = SentKill()
    variables = environ(VENDORS["grafana-cloud"], tmp_path)
    variables["GRAFANA_CLOUD_URL"] = f"{loki_receiver.url}/otlp"
    files = (AGENT, vendor_file("grafana-cloud"))
    with run_collector(collector_binary, *files, env=variables) as collector:
        assert kill.send_logs(collector, "oom.kill", "session.start").status == 200
        wait_until(lambda: len(loki_receiver.find(service_name=kill.service)) == 2, "both logs")
    entries = loki_receiver.find(service_name=kill.service)
    labels = {entry.fields["event_name"]: entry.labels.get("oom_event") for entry in entries}
    assert labels == {"oom.kill": "oom.kill", "session.start": None}


def test_the_collector_drops_what_a_wrong_key_makes_the_vendor_reject(
    collector_binary: Path, tmp_path: Path
) -> None:
    """As docs/backends.md warns: the sender has its 200, and the queue does not retry a 401."""
    variables = environ(VENDORS["honeycomb"], tmp_path)
    with HttpServer(lambda _: http_response(401)) as server:
        variables["HONEYCOMB_URL"] = server.url
        files = (AGENT, vendor_file("honeycomb"))
        with run_collector(collector_binary, *files, env=variables) as collector:
            assert SentKill().send_log(collector).status == 200
            wait_until_printed(collector, "Exporting failed. Dropping data.", "401")


def test_a_new_token_in_the_file_is_used_without_a_restart(
    collector_binary: Path, tmp_path: Path
) -> None:
    """Those of Google and Azure end after an hour; the file is written as a shell does it."""
    variables = environ(VENDORS["google"], tmp_path)
    with HttpServer() as server:
        overlay = {"exporters": {"otlp_http": {"endpoint": server.url}}}
        files = (AGENT, vendor_file("google"), overlay)
        with run_collector(collector_binary, *files, env=variables) as collector:
            Path(variables["GOOGLE_TOKEN_FILE"]).write_text("SECOND\n", encoding="utf-8")

            def is_used() -> bool:
                SentKill().send_log(collector)
                return any(r.headers["Authorization"] == "Bearer SECOND" for r in server.requests)

            wait_until(is_used, "the second token")


@pytest.mark.parametrize("name", VENDORS)
def test_the_endpoints_are_the_documented_ones(tmp_path: Path, name: str) -> None:
    """With the Collector's rule: a base URL gets the path of the signal."""
    written = endpoints(name, environ(VENDORS[name], tmp_path))
    for signal, url in VENDORS[name].urls.items():
        own = written.get(f"{signal}_endpoint") or f"{written['endpoint']}/v1/{signal}"
        assert own == url
    assert LOOPBACK not in "".join(written.values())
