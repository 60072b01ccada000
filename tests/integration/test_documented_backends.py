"""The variables and queries of docs/backends.md: sent and queried as they stand there."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import yaml
from msgspec.structs import replace as replace_struct
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from otel_oom.config.endpoint import Endpoint
from otel_oom.config.metrics import ScrapeAddress, read_metrics_config
from otel_oom.config.otlp import read_otlp_config
from otel_oom.export.exporter import create_transport
from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.otlp.encode import encode_log, encode_span
from tests.testlib.repository import REPOSITORY
from tests.testlib.samples.events import sample_enriched_kill
from tests.testlib.servers.jaeger import Jaeger
from tests.testlib.servers.loki_entry import matches_selector
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.prometheus import run_prometheus
from tests.testlib.servers.recorder import Recorder
from tests.testlib.servers.vendors import VENDORS
from tests.testlib.servers.victorialogs import VictoriaLogs
from tests.testlib.servers.web import http_get
from tests.testlib.wait import wait_until

PAGE: Final = (REPOSITORY / "docs/backends.md").read_text(encoding="utf-8")
SECTIONS: Final = {
    title.lower().replace(" ", "-"): text
    for title, text in re.findall(r"(?ms)^## (.+?)$(.*?)(?=^## |\Z)", PAGE)
}
OTHER_NAMES: Final = {"google": "google-cloud"}
ACCEPTED: Final = ExportResponse(ExportResult.ACCEPTED)


def environs(section: str, base: str = "", server: str = "") -> list[dict[str, str]]:
    """Return the variables of each block of a section, with a test's server in place of `base`."""
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```$", SECTIONS[section])
    assert blocks
    assert all(base in block for block in blocks)
    return [
        dict(line.split("=", 1) for line in block.replace(base, server or base).splitlines())
        for block in blocks
    ]


def queries(section: str) -> list[str]:
    """Return the queries in the tables of a section."""
    rows = re.findall(r"(?m)^\| `(.+?)` \| ", SECTIONS[section])
    assert rows
    return [row.replace(r"\|", "|") for row in rows]


def read_endpoints(variables: Mapping[str, str]) -> dict[str, Endpoint]:
    """Return the endpoint of each signal that an agent with these variables sends."""
    warnings: list[str] = []
    endpoints = {
        each.signal: each for each in read_otlp_config(variables, warnings.append).endpoints
    }
    metrics = read_metrics_config(variables, warnings.append)
    if metrics and metrics.endpoint:
        endpoints["metrics"] = metrics.endpoint
    assert not warnings
    return endpoints


def send(endpoints: Iterable[Endpoint], service: str) -> None:
    """Send a kill of a service by the agent's own exporter; each endpoint must accept it."""
    kill = sample_enriched_kill(time_unix_ns=time.time_ns())
    resource = {**kill.resource, "service.name": service}
    kill = replace_struct(kill, resource=resource, limit_scope="own")
    payloads = {"logs": encode_log(kill), "traces": encode_span(kill), "metrics": metric(service)}
    for endpoint in endpoints:
        with closing(create_transport(endpoint)) as transport:
            assert transport.send(payloads[endpoint.signal]) == ACCEPTED, endpoint.signal


def metric(service: str) -> bytes:
    """Return a count of kills of one."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.add(key="service.name").value.string_value = "otel-oom"
    group.resource.attributes.add(key="host.name").value.string_value = "node-1"
    counter = group.scope_metrics.add().metrics.add(name="oom.kills", unit="{kill}").sum
    counter.is_monotonic = True
    counter.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    point = counter.data_points.add(as_int=1, time_unix_nano=time.time_ns())
    point.attributes.add(key="service.name").value.string_value = service
    return request.SerializeToString()


def read_scrape_address(variables: Mapping[str, str]) -> ScrapeAddress:
    """Return the address on which an agent with these variables is scraped."""
    config = read_metrics_config(variables)
    assert config is not None
    assert config.endpoint is None
    assert config.scrape_address is not None
    return config.scrape_address


@pytest.fixture
def service() -> str:
    return f"shop-{secrets.token_hex(4)}"


@pytest.mark.parametrize("name", VENDORS)
def test_the_agent_sends_what_the_collector_sends(name: str) -> None:
    """URL and headers of each signal, by the vendor's documentation; the others are off."""
    vendor, section = VENDORS[name], OTHER_NAMES.get(name, name)
    if "```sh" not in SECTIONS[section]:
        assert f"{name}.yaml) only" in SECTIONS[section]
        return
    (variables,) = environs(section)
    endpoints = read_endpoints(variables)
    urls = {"logs": vendor.urls["logs"]} if vendor.is_signed else vendor.urls
    assert {signal: each.url for signal, each in endpoints.items()} == urls
    wanted = {key.lower(): value for key, value in vendor.headers.items()}
    if name == "grafana-cloud":
        wanted["authorization"] = "Basic BASE64"
    for endpoint in endpoints.values():
        assert {key.lower(): value for key, value in endpoint.headers} == wanted


def test_any_receiver_gets_both_by_http_and_by_grpc(recorder: Recorder, service: str) -> None:
    addresses = {"http": recorder.collector.http, "grpc": f"http://{recorder.collector.grpc}"}
    http, grpc = environs("any-otlp-receiver")
    for variables, base in ((http, "http"), (grpc, "grpc")):
        here = {**variables, "OTEL_EXPORTER_OTLP_ENDPOINT": addresses[base]}
        send(read_endpoints(here).values(), service)
    wait_until(lambda: len(recorder.logs()) == len(recorder.spans()) == 2, "both, by both")


def test_jaeger_gets_the_span(jaeger: Jaeger, service: str) -> None:
    (variables,) = environs("jaeger", "http://jaeger.example:4318", jaeger.http)
    endpoints = read_endpoints(variables)
    assert endpoints.keys() == {"traces"}
    send(endpoints.values(), service)
    tags = '{"oom.limit.scope":"own","host.name":"node-1"}'
    wait_until(lambda: jaeger.traces(service, operation="oom.kill", tags=tags), "the trace")
    assert "tags such as `oom.limit.scope=own host.name=node-1`" in SECTIONS["jaeger"]


def test_each_query_of_victorialogs_finds_the_kill(
    victorialogs: VictoriaLogs, service: str
) -> None:
    (variables,) = environs("victorialogs", "http://victorialogs.example:9428", victorialogs.url)
    endpoints = read_endpoints(variables)
    assert endpoints.keys() == {"logs"}
    send(endpoints.values(), service)
    of_service = f'service.name:="{service}"'
    (entry,) = wait_until(lambda: victorialogs.query(of_service), "the entry") or []
    # The header limits the stream to what does not change with each kill.
    assert set(re.findall(r'([\w.]+)="', entry.stream)) <= {
        *("service.name", "service.namespace"),
        *("k8s.cluster.name", "k8s.namespace.name", "host.name"),
    }
    for query in queries("victorialogs"):
        here = query.replace('service.name:="shop"', of_service)
        reply = http_get(f"{victorialogs.url}/select/logsql/query", {"query": here})
        assert reply.status == 200, query
        assert reply.body, query
    trace_id = entry.fields["trace_id"]
    assert 'trace_id:="ID"' in PAGE
    assert victorialogs.query(f'{of_service} trace_id:="{trace_id}"') == [entry]


def test_duplicates_are_removed_by_their_uid(victorialogs: VictoriaLogs, service: str) -> None:
    """A message that was sent again, as after a lost response: the store keeps both."""
    (variables,) = environs("victorialogs", "http://victorialogs.example:9428", victorialogs.url)
    endpoints = read_endpoints(variables)
    for _ in range(2):
        send(endpoints.values(), service)
    of_service = f'service.name:="{service}"'
    wait_until(lambda: len(victorialogs.query(of_service)) == 2, "both")
    by_uid = [query for query in queries("victorialogs") if "log.record.uid" in query]
    count, first = by_uid
    replies = [
        http_get(
            f"{victorialogs.url}/select/logsql/query", {"query": f"{of_service} {query}"}
        ).body.splitlines()
        for query in (count, first)
    ]
    assert [len(lines) for lines in replies] == [1, 1]
    assert json.loads(replies[0][0])["kills"] == "1"


def test_each_query_of_loki_reads_the_kill(loki_receiver: LokiReceiver, service: str) -> None:
    """Straight from the agent by the long queries; through the Collector by the label."""
    (variables,) = environs("loki", "http://loki.example:3100", loki_receiver.url)
    endpoints = read_endpoints(variables)
    assert endpoints.keys() == {"logs"}
    send(endpoints.values(), service)
    (entry,) = loki_receiver.find(service_name=service)
    assert entry.fields["event_name"] == "oom.kill"
    for query in queries("loki"):
        (selector,) = re.findall(r"\{.*?\}", query.replace('"shop"', f'"{service}"'))
        by_collector = replace(entry, labels={**entry.labels, "oom_event": "oom.kill"})
        assert matches_selector(by_collector.labels, selector)
        assert matches_selector(entry.labels, selector) == ("oom_event" not in selector)


def test_prometheus_gets_the_metrics(prometheus_binary: Path, service: str) -> None:
    """By OTLP; the server accepts the configuration of a scrape as well, of the agent's port."""
    config = "".join(re.findall(r"(?ms)^```yaml\n(.*?)^```$", SECTIONS["prometheus"]))
    with run_prometheus(prometheus_binary, yaml.safe_load(config)) as server:
        variables, of_scrape = environs("prometheus")
        base = "http://prometheus.example:9090"
        variables = {name: value.replace(base, server.url) for name, value in variables.items()}
        endpoints = read_endpoints(variables)
        assert endpoints.keys() == {"metrics"}
        send(endpoints.values(), service)
        query = "sum by (host_name, service_name) (oom_kills_total)"
        (sample,) = wait_until(lambda: server.query(query), "the series") or []
    assert sample.labels == {"host_name": "node-1", "service_name": service}
    address = read_scrape_address(of_scrape)
    assert f"[node-1.example:{address.port}]" in config
    assert address.host == "0.0.0.0"
    assert query.replace("(oom", "(increase(oom").replace("total)", "total[1h]))") in PAGE
