"""The agent as Prometheus scrapes it: names, values, labels, and the probes on the same port."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from otel_oom.agent.health import Health
from otel_oom.agent.metrics import scrape_server
from otel_oom.agent.metrics.instruments import Metrics
from otel_oom.agent.stats import Stats
from otel_oom.config.metrics import DEFAULT_OWNER_NAMES, read_metrics_config
from otel_oom.config.otlp import read_otlp_config
from otel_oom.otlp.event import build_event
from otel_oom.otlp.kill_counts import count_kills, count_memory
from otel_oom.store import OutboxEntry, Store
from otel_oom.store.database_file import NAME
from tests.testlib.ingest import ScriptedSource, ingest_loop
from tests.testlib.process import free_port
from tests.testlib.samples.events import KILL, sample_enriched_kill
from tests.testlib.servers.prometheus import run_prometheus
from tests.testlib.servers.web import HttpReply, http_get
from tests.testlib.wait import wait_until

LIMIT_S = 30.0
HOSTILE = 'shop"} 7\noom_kills_total{service_name="x\\'
CONNECTION = {"scrape_interval": "1s", "job_name": "agents"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as opened:
        yield opened


def queue_kills(store: Store, *services: str) -> None:
    """Queue the log of a kill of each service."""
    for number, service in enumerate(services):
        enriched = sample_enriched_kill()
        event = build_event(enriched)
        event = replace(event, resource={**event.resource, "service.name": service})
        kills = count_kills(enriched, event, DEFAULT_OWNER_NAMES)
        counts = count_memory(enriched)
        entry = OutboxEntry(number, str(number), b"log", None, counts=counts, kills=kills)
        store.enqueue([entry])


def rename_table(store: Store, old: str, new: str) -> None:
    """Have the store fail in earnest, as another program can."""
    with closing(sqlite3.connect(store.path / NAME)) as other:
        other.execute(f"ALTER TABLE {old} RENAME TO {new}")


@contextmanager
def run_metrics(
    store: Store, health: Health | None = None, environ: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Run the metrics of ``store``, and yield the URL of the port."""
    port = str(free_port())
    environ = {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_EXPORTER_PROMETHEUS_PORT": port,
        **(environ or {}),
    }
    config = read_metrics_config(environ)
    assert config is not None
    stats = Stats()
    metrics = Metrics(
        config,
        {"host.name": "node-1"},
        read_otlp_config(environ).destinations,
        stats,
        store,
        health=health,
    )
    assert stats.record_request
    stats.record_request("logs", 0.003, "503")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        metrics.stop(5.0)


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape_server, "_VALID_S", -1.0)


def read_kills(page: str) -> list[float]:
    return [float(n) for n in re.findall(r"(?m)^oom_kills_total\{.*\} (\S+)$", page)]


def test_kills_are_scraped_by_service(store: Store) -> None:
    queue_kills(store, "shop", "shop", "mail")
    with run_metrics(store) as url:
        page = http_get(f"{url}/metrics").body.decode()
    assert sum(read_kills(page)) == 3
    assert re.search(r'(?m)^oom_kills_total\{.*service_name="shop"\} 2.0$', page), page
    assert re.search(r'(?m)^oom_last_kill_time_seconds\{.*service_name="mail"\} 1\.7e\+09$', page)
    assert 'oom_victim_memory_bytes_bucket{le="67108864",oom_limit_scope="' in page
    assert 'target_info{host_name="node-1"' in page
    assert "# TYPE process_open_fds gauge" in page


def test_it_listens_on_this_host_alone_by_default(store: Store) -> None:
    with run_metrics(store) as url:
        sockets = Path("/proc/net/tcp").read_text(encoding="ascii") if os.name == "posix" else ""
    port = f"{int(url.rpartition(':')[2]):04X}"
    assert f"0100007F:{port} 00000000:0000 0A" in sockets


def test_a_second_agent_is_not_scraped_and_goes_on(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with run_metrics(store) as url:
        port = url.rpartition(":")[2]
        with run_metrics(store, environ={"OTEL_EXPORTER_PROMETHEUS_PORT": port}):
            pass
    assert f"can't scrape localhost:{port}: [Errno 98]" in caplog.text
    assert "Traceback" not in caplog.text


def test_an_unreadable_store_is_said_and_ends_nothing(store: Store) -> None:
    with run_metrics(store) as url:
        rename_table(store, "counters", "gone")
        failed = http_get(f"{url}/metrics")
        rename_table(store, "gone", "counters")
        assert failed.status == 503
        assert b"store can't be read" in failed.body
        assert http_get(f"{url}/metrics").status == 200


def test_probes_follow_capture(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it begins, while it turns, while the store fails, and once the loop has ended."""
    health = Health(store)
    reader, writer = os.pipe()

    def probe(url: str) -> tuple[int, int, str]:
        replies: list[HttpReply] = [http_get(f"{url}/{path}") for path in ("healthz", "readyz")]
        return replies[0].status, replies[1].status, replies[1].body.decode()

    with ScriptedSource() as source, run_metrics(store, health) as url:
        assert probe(url) == (200, 503, "capture has not begun\n")
        loop = ingest_loop(source, store)
        thread = threading.Thread(target=loop.loop, args=(reader,), daemon=True)
        thread.start()
        health.ingest = loop
        wait_until(lambda: probe(url) == (200, 200, "ok\n"), "it is ready", limit=LIMIT_S)
        rename_table(store, "counters", "gone")
        source.buffer.append(KILL)
        wait_until(lambda: probe(url)[:2] == (200, 503), "it is not ready", limit=LIMIT_S)
        assert "kills can't be stored: no such table" in probe(url)[2]
        rename_table(store, "gone", "counters")
        wait_until(lambda: probe(url) == (200, 200, "ok\n"), "ready again", limit=LIMIT_S)
        health.find_delivery_error = lambda: "thread 'encode' has ended"
        ended = (503, 503, "thread 'encode' has ended\n")
        wait_until(lambda: probe(url) == ended, "delivery has ended", limit=LIMIT_S)
        health.find_delivery_error = lambda: None
        # Not earlier: a busy machine may keep a loop that runs from a turn for as long.
        monkeypatch.setattr("otel_oom.agent.health._TURN_S", 0.2)
        os.write(writer, b"x")
        thread.join(LIMIT_S)
        assert probe(url) == (503, 503, "the capture loop has made no turn for 0 s\n")
    for descriptor in (reader, writer):
        os.close(descriptor)


def test_without_an_agent_there_are_no_probes(store: Store) -> None:
    with run_metrics(store) as url:
        assert http_get(f"{url}/healthz").status == 404


def test_one_collection_stands_for_many_requests(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape_server, "_VALID_S", 60.0)
    with run_metrics(store) as url:
        first = http_get(f"{url}/metrics").body
        queue_kills(store, "shop")
        assert http_get(f"{url}/metrics").body == first


@pytest.mark.servers
def test_promtool_has_nothing_to_say(store: Store, promtool_binary: Path) -> None:
    queue_kills(store, "shop", HOSTILE, "lone \udc80 surrogate")
    with run_metrics(store) as url:
        page = http_get(f"{url}/metrics").body
    command = [str(promtool_binary), "check", "metrics"]
    done = subprocess.run(command, input=page, capture_output=True, check=False, timeout=LIMIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.servers
def test_a_real_prometheus_has_the_same_kills_by_scrape_and_by_otlp(
    store: Store, prometheus_binary: Path
) -> None:
    """Also a name that would be another series, were it not escaped.

    A promoted name of the agent does not replace that of an owner.
    """
    queue_kills(store, "shop", "shop", HOSTILE)
    port = str(free_port())
    config = {
        "otlp": {"promote_resource_attributes": ["service.name", "service.namespace"]},
        "scrape_configs": [
            {
                "job_name": "agents",
                "scrape_interval": "1s",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
            }
        ],
    }
    with run_prometheus(prometheus_binary, config) as prometheus:
        environ = {
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_PORT": port,
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{prometheus.otlp}/v1/metrics",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }
        with run_metrics(store, environ=environ):
            query = "sum by (service_name, job) (oom_kills_total)"
            wait_until(lambda: len(prometheus.query(query)) == 6, "both ways", limit=LIMIT_S)
            kills = prometheus.query(query)
            age = prometheus.query("min by (job) (time() - oom_last_kill_time_seconds)")
            memory = prometheus.query("histogram_quantile(1, oom_victim_memory_bytes_bucket)")
            process = prometheus.query('{__name__=~"process_.*"}')
    for job, nobody in (("agents", None), ("otel-oom", "otel-oom")):
        counted = {
            sample.labels.get("service_name"): sample.value
            for sample in kills
            if sample.labels["job"] == job
        }
        assert counted == {nobody: 0, "shop": 2, HOSTILE: 1}
    assert {sample.labels["job"] for sample in age} == {"agents", "otel-oom"}
    assert {sample.labels["job"] for sample in memory} == {"agents", "otel-oom"}
    assert process
