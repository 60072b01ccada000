"""collector-config/gateway.yaml: two real gateways, which are killed in between."""

from __future__ import annotations

import re
import secrets
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.testlib.command import run_otel_oom
from tests.testlib.samples.replay_logs import KILL, syslog_lines
from tests.testlib.servers.collector import Collector
from tests.testlib.servers.gateways import PODS, Gateways, pod_resource
from tests.testlib.servers.recorder import run_recorder
from tests.testlib.servers.sent_kill import SentKill
from tests.testlib.servers.web import http_get
from tests.testlib.wait import wait_until


@pytest.fixture
def gateways(collector_binary: Path, tmp_path: Path) -> Gateways:
    return Gateways(collector_binary, tmp_path)


def replay_hosts(folder: Path, name: str, gateway: Collector) -> None:
    """Send a kill of each of twelve hosts, as one agent does, until the gateway has all."""
    hosts = [secrets.token_hex(4) for _ in range(PODS)]
    lines = [line for host in hosts for line in syslog_lines(KILL, host=host)]
    log = folder / f"{name}.log"
    log.write_text("\n".join([*lines, ""]), encoding="utf-8")
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": gateway.http, "no_proxy": "*"}
    done = run_otel_oom("replay", "--state-dir", folder / name, log, env=env)
    assert done.code == 0, done
    assert f"{PODS} of them new" in done.err


def accepted(gateway: Collector, items: str) -> int:
    """Return how many log_records or spans a gateway has for its own backend exporter."""
    page = http_get(gateway.metrics).body.decode()
    pattern = rf'(?m)^otelcol_receiver_accepted_{items}\w*\{{.*receiver="otlp/gateways".*\}} (\d+)$'
    return sum(map(int, re.findall(pattern, page)))


def test_nothing_is_lost_when_both_gateways_are_killed(gateways: Gateways, tmp_path: Path) -> None:
    """Two agents send to one gateway each, which has their 200 before the backend exists."""
    with gateways.run_both() as running:
        items_of = ("log_records", "spans")
        before = {items: [accepted(each, items) for each in running] for items in items_of}
        for name, gateway in zip(("db", "web"), running, strict=True):
            replay_hosts(tmp_path, name, gateway)
        pods = [SentKill(resource=pod_resource()) for _ in range(PODS)]
        for kill in pods:
            assert kill.send_log(running[0]).status == 200
            assert kill.send_span(running[1]).status == 200
            assert kill.send_metric(running[0]).status == 200
        logs, spans = (
            [accepted(each, items) - had for each, had in zip(running, before[items], strict=True)]
            for items in before
        )
        # Each host and pod has one gateway, wherever its log and its span were received.
        assert logs == spans
        assert sum(logs) == 3 * PODS
        assert min(logs) > 0
        for gateway in running:
            gateway.process.kill()
    with (
        run_recorder(gateways.binary, env={"OTLP_HTTP_LISTEN": gateways.backend}) as sink,
        gateways.run_both(),
    ):
        wait_until(lambda: len(sink.spans()) >= 3 * PODS, "the spans", limit=30)
        ids = {span["spanId"] for span in sink.spans()}
        assert len(ids) == 3 * PODS
        wait_until(lambda: ids <= {log["spanId"] for log in sink.logs()}, "the logs", limit=30)
        wait_until(lambda: len(sink.metrics()) == PODS, "the metrics", limit=30)


def test_records_of_a_dead_gateway_are_retryable(gateways: Gateways) -> None:
    """The other one goes on; none of the dead one's is accepted without a disk that has it."""
    kills = [SentKill(resource=pod_resource()) for _ in range(PODS)]
    with ExitStack() as stack:
        sink = stack.enter_context(
            run_recorder(gateways.binary, env={"OTLP_HTTP_LISTEN": gateways.backend})
        )
        first, second = stack.enter_context(gateways.run_both())
        second.process.kill()
        statuses = {kill.service: kill.send_log(first).status for kill in kills}
        assert set(statuses.values()) == {200, 503}
        stack.enter_context(gateways.run(1))
        rejected = [kill for kill in kills if statuses[kill.service] == 503]
        wait_until(
            lambda: all(kill.send_log(first).status == 200 for kill in rejected), "200s", limit=30
        )
        sent = {kill.trace_id for kill in kills}
        wait_until(lambda: sent <= {log["traceId"] for log in sink.logs()}, "the logs", limit=30)
