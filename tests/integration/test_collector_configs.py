"""The files of collector-config/, each run by a real Collector in front of a real backend."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import pytest

from tests.testlib.process import LOOPBACK, ServerError, free_port
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.collector import run_collector, validate_configs
from tests.testlib.servers.jaeger import Jaeger
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.prometheus import run_prometheus
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.servers.sent_kill import SentKill, wait_until_printed
from tests.testlib.servers.victorialogs import VictoriaLogs
from tests.testlib.servers.web import Json, http_get, is_ok
from tests.testlib.wait import wait_until

FOLDER = REPOSITORY / "collector-config"
NAMES = (
    *("agent", "jsonfile", "jaeger", "loki", "victorialogs"),
    *("gateway", "prometheus", "clickhouse", "kubernetes"),
)
FILES = [FOLDER / f"{name}.yaml" for name in NAMES]
AGENT, JSONFILE, JAEGER, LOKI, VICTORIALOGS, GATEWAY, PROMETHEUS, CLICKHOUSE, KUBERNETES = FILES
OVERLAYS = (JSONFILE, KUBERNETES)
NOWHERE = f"http://{LOOPBACK}:9"  # the discard port, which nothing listens on


@pytest.mark.parametrize(
    "files",
    [
        *((file,) for file in FILES if file not in OVERLAYS),
        *((AGENT, JSONFILE), (AGENT, KUBERNETES), (GATEWAY, KUBERNETES)),
        *((PROMETHEUS, JAEGER, LOKI), (PROMETHEUS, JAEGER, VICTORIALOGS)),
        *((JAEGER, LOKI), (LOKI, JAEGER)),
        *((JAEGER, VICTORIALOGS), (JAEGER, LOKI, VICTORIALOGS)),
    ],
    ids=lambda files: "+".join(file.stem for file in files),
)
def test_a_config_is_valid_without_a_warning(
    collector_binary: Path, files: tuple[Path, ...]
) -> None:
    """Each file, and those that are meant to be combined."""
    assert validate_configs(collector_binary, *files, env={"BACKEND_ENDPOINT": NOWHERE}) == ""


def test_agent_without_a_backend_is_invalid(collector_binary: Path) -> None:
    """A Collector without a backend must not start and drop its input."""
    assert "at least one endpoint must be specified" in validate_configs(collector_binary, AGENT)


def test_the_readme_lists_the_variables_and_their_defaults() -> None:
    """Each variable once, and no other."""
    configs = "".join(file.read_text(encoding="utf-8") for file in FILES)
    used = dict(re.findall(r"\$\{env:(\w+)(?::-([^}]*))?\}", configs))
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| `([A-Z_]+)` \| (?:none\b[^|]*|`([^`]*)`) \|", readme, re.MULTILINE)
    )
    assert rows == {name: "" if default == "[]" else default for name, default in used.items()}


def test_agent_delivers_to_a_backend_that_starts_later(
    collector_binary: Path, tmp_path: Path
) -> None:
    backend = f"{LOOPBACK}:{free_port()}"
    env = {"BACKEND_ENDPOINT": f"http://{backend}", "QUEUE_DIRECTORY": str(tmp_path / "queue")}
    kill = SentKill()
    with run_collector(collector_binary, AGENT, env=env) as agent:
        wait_until(lambda: is_ok(agent.health), "healthy without its backend")
        kill.send(agent)
        wait_until(lambda: "Exporting failed" in agent.process.output(), "a first, failed try")
        with run_recorder(collector_binary, env={"OTLP_HTTP_LISTEN": backend}) as sink:
            assert wait_until(sink.logs, "the log", limit=30)[0]["eventName"] == "oom.kill"
            assert wait_until(sink.spans, "the span", limit=30)[0]["traceId"] == kill.trace_id


def test_accepted_telemetry_survives_a_kill_of_the_collector(
    collector_binary: Path, tmp_path: Path
) -> None:
    """A sender that got 200 may forget, even if the Collector is killed at once."""
    backend = f"{LOOPBACK}:{free_port()}"
    env = {"BACKEND_ENDPOINT": f"http://{backend}", "QUEUE_DIRECTORY": str(tmp_path / "queue")}
    kill = SentKill()
    with run_collector(collector_binary, AGENT, env=env) as agent:
        kill.send(agent)
        agent.process.kill()
    with (
        run_recorder(collector_binary, env={"OTLP_HTTP_LISTEN": backend}) as sink,
        run_collector(collector_binary, AGENT, env=env),
    ):
        assert wait_until(sink.logs, "the log", limit=30)[0]["traceId"] == kill.trace_id
        assert wait_until(sink.spans, "the span", limit=30)[0]["traceId"] == kill.trace_id


def test_a_full_queue_is_retryable_for_the_sender(collector_binary: Path, tmp_path: Path) -> None:
    """503, not a 200 and a loss."""
    env = {"BACKEND_ENDPOINT": NOWHERE, "QUEUE_DIRECTORY": str(tmp_path / "queue")}
    small: Json = {"exporters": {"otlp_http": {"sending_queue": {"queue_size": 2}}}}
    with run_collector(collector_binary, AGENT, small, env=env) as agent:
        statuses = [SentKill().send_log(agent).status for _ in range(20)]
    assert set(statuses) == {200, 503}


def test_agent_sends_the_given_headers(collector_binary: Path, tmp_path: Path) -> None:
    """A backend that requires a key gets it."""
    backend = f"{LOOPBACK}:{free_port()}"
    env = {
        "BACKEND_ENDPOINT": f"http://{backend}",
        "BACKEND_HEADERS": '{"authorization": "Bearer of-tests"}',
        "QUEUE_DIRECTORY": str(tmp_path / "queue"),
    }
    guard: Json = {
        "extensions": {"bearertokenauth": {"token": "of-tests"}},
        "receivers": {
            "otlp": {
                "protocols": {
                    "http": {"endpoint": backend, "auth": {"authenticator": "bearertokenauth"}}
                }
            }
        },
        "exporters": {"debug": {"verbosity": "normal"}},
        "service": {
            "extensions": ["bearertokenauth"],
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["debug"]}},
        },
    }
    kill = SentKill()
    with (
        run_collector(collector_binary, guard) as sink,
        run_collector(collector_binary, AGENT, env=env) as agent,
    ):
        kill.send_log(agent)
        wait_until(lambda: kill.service in sink.process.output(), "the log")


def test_jaeger_gets_the_span_and_the_console_the_rest(
    collector_binary: Path, jaeger: Jaeger
) -> None:
    """No signal is rejected: Jaeger has the trace, and the Collector's log the rest."""
    kill = SentKill()
    with run_collector(collector_binary, JAEGER, env={"JAEGER_URL": jaeger.http}) as server:
        kill.send(server)
        assert kill.send_metric(server).status == 200
        printed = wait_until_printed(server, f"{kill.service} was killed", "oom.kills")
    assert kill.service in jaeger.services()
    assert spans_of(jaeger, kill) == ["oom.kill"]
    assert kill.trace_id not in printed


def test_jaeger_has_the_kills_of_all_services_under_one(
    collector_binary: Path, jaeger: Jaeger
) -> None:
    """Where a service is named: a child of each kill's span, and none of another sender's."""
    service = f"oom-kills-{secrets.token_hex(4)}"
    kills = [SentKill(scope="otel_oom") for _ in range(2)]
    other = SentKill(scope="shop")
    env = {"JAEGER_URL": jaeger.http, "JAEGER_OOM_SERVICE": service}
    with run_collector(collector_binary, JAEGER, env=env) as server:
        for kill in (*kills, kills[0], other):  # one of them twice, as after a lost response
            assert kill.send_span(server).status == 200
    found = wait_until(lambda: jaeger.traces(service), "the traces of that service")
    assert {trace["traceID"] for trace in found or []} == {kill.trace_id for kill in kills}
    for kill in kills:
        spans = span_services(jaeger, kill)
        assert sorted({name for _, name, _ in spans}) == sorted([service, kill.service])
        (own,) = {span_id for span_id, name, _ in spans if name == kill.service}
        (copy,) = {(span_id, parent) for span_id, name, parent in spans if name == service}
        assert copy != (own, None)
        assert copy[1] == own
    assert {name for _, name, _ in span_services(jaeger, other)} == {other.service}


@pytest.mark.parametrize("files", [(JAEGER, LOKI), (LOKI, JAEGER)], ids=["jl", "lj"])
def test_jaeger_and_loki_together_get_their_signals(
    collector_binary: Path,
    jaeger: Jaeger,
    loki_receiver: LokiReceiver,
    files: tuple[Path, Path],
) -> None:
    """Neither file removes the other's pipeline, in either order."""
    kill = SentKill()
    env = {"JAEGER_URL": jaeger.http, "LOKI_URL": loki_receiver.url}
    with run_collector(collector_binary, *files, env=env) as server:
        kill.send(server)
        assert is_ok(server.health)
    assert spans_of(jaeger, kill) == ["oom.kill"]
    (entry,) = loki_receiver.find(service_name=kill.service)
    assert entry.fields["event_name"] == "oom.kill"


def test_jaeger_and_victorialogs_together_get_their_signals(
    collector_binary: Path, jaeger: Jaeger, victorialogs: VictoriaLogs, tmp_path: Path
) -> None:
    """The file with the longer list of extensions comes last, as its comment says."""
    kill = SentKill()
    env = {
        "JAEGER_URL": jaeger.http,
        "VICTORIALOGS_URL": victorialogs.url,
        "QUEUE_DIRECTORY": str(tmp_path / "queue"),
    }
    with run_collector(collector_binary, JAEGER, VICTORIALOGS, env=env) as server:
        kill.send(server)
        query = f'service.name:="{kill.service}"'
        (entry,) = wait_until(lambda: victorialogs.query(query), "the log in VictoriaLogs")
    assert spans_of(jaeger, kill) == ["oom.kill"]
    assert entry.fields["event_name"] == "oom.kill"


def test_victorialogs_before_jaeger_is_an_error_at_start(
    collector_binary: Path, tmp_path: Path
) -> None:
    """A Collector without the queue's extension must not start and lose its input."""
    env = {"QUEUE_DIRECTORY": str(tmp_path / "queue")}
    with (
        pytest.raises(ServerError, match="no storage client extension found"),
        run_collector(collector_binary, VICTORIALOGS, JAEGER, env=env),
    ):
        pass


@pytest.mark.parametrize(
    ("config", "variable"), [(JAEGER, "JAEGER_URL"), (LOKI, "LOKI_URL")], ids=["jaeger", "loki"]
)
def test_an_absent_backend_is_retryable_for_the_sender(
    collector_binary: Path, config: Path, variable: str
) -> None:
    """503, which OTLP says to retry: not a 200, and nothing final."""
    with run_collector(collector_binary, config, env={variable: NOWHERE}) as server:
        reply = SentKill().send_span(server) if config is JAEGER else SentKill().send_log(server)
    assert reply.status == 503


@pytest.mark.parametrize("promoted", [[], ["host.name"]], ids=["plain", "promoted"])
def test_prometheus_has_owner_and_host_by_otlp(
    collector_binary: Path, prometheus_binary: Path, promoted: list[str]
) -> None:
    """As labels, once, also where Prometheus makes one of the host itself; the rest is printed."""
    kills = [SentKill(resource={"host.name": "node-1"}) for _ in range(2)]
    config = {"otlp": {"promote_resource_attributes": promoted}}
    with (
        run_prometheus(prometheus_binary, config) as server,
        run_collector(
            collector_binary, PROMETHEUS, env={"PROMETHEUS_URL": server.url}
        ) as collector,
    ):
        for kill in kills:
            kill.send(collector)
            assert kill.send_metric(collector).status == 200
        query = "sum by (host_name, service_name) (oom_kills_total)"
        wait_until(lambda: len(server.query(query)) == 2, "both series")
        labels = [sample.labels for sample in server.query(query)]
        wait_until_printed(collector, f"{kills[1].service} was killed", kills[1].trace_id)
    wanted = [{"host_name": "node-1", "service_name": kill.service} for kill in kills]
    assert sorted(labels, key=str) == sorted(wanted, key=str)


def test_prometheus_can_scrape_owner_and_host(collector_binary: Path) -> None:
    """One series for each owner: the agent's service does not take the victim's place."""
    address = f"{LOOPBACK}:{free_port()}"
    kills = [SentKill(resource={"host.name": "node-1"}) for _ in range(2)]
    env = {"PROMETHEUS_EXPORTERS": "[prometheus]", "PROMETHEUS_LISTEN": address}
    with run_collector(collector_binary, PROMETHEUS, env=env) as collector:
        for kill in kills:
            assert kill.send_metric(collector).status == 200
        page = http_get(f"http://{address}/metrics").body.decode()
    for kill in kills:
        labels = rf'host_name="node-1",job="otel-oom",.*service_name="{kill.service}"'
        assert re.search(rf"(?m)^oom_kills_total\{{{labels}.*\}} 1$", page), page


def span_services(jaeger: Jaeger, kill: SentKill) -> list[tuple[str, str, str | None]]:
    """Return the ID, service and parent's ID of each span in a kill's trace in Jaeger."""
    trace = wait_until(lambda: jaeger.trace(kill.trace_id), "the trace in Jaeger")
    assert trace is not None
    services = {key: process["serviceName"] for key, process in trace["processes"].items()}
    return [
        (
            span["spanID"],
            services[span["processID"]],
            next((reference["spanID"] for reference in span["references"]), None),
        )
        for span in trace["spans"]
    ]


def spans_of(jaeger: Jaeger, kill: SentKill) -> list[str]:
    """Return the names of a kill's spans in Jaeger, once it has any."""
    trace = wait_until(lambda: jaeger.trace(kill.trace_id), "the trace in Jaeger")
    assert trace is not None
    return [span["operationName"] for span in trace["spans"]]
