"""collector-config/victorialogs.yaml in front of a real VictoriaLogs."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from tests.testlib.process import LOOPBACK
from tests.testlib.repository import REPOSITORY
from tests.testlib.samples.rich_events import RICH_EVENTS
from tests.testlib.servers.collector import run_collector
from tests.testlib.servers.sent_kill import SentKill, wait_until_printed
from tests.testlib.servers.victorialogs import VictoriaLogs
from tests.testlib.servers.web import Json, http_post, is_ok
from tests.testlib.wait import wait_until

VICTORIALOGS = REPOSITORY / "collector-config/victorialogs.yaml"
NOWHERE = f"http://{LOOPBACK}:9"  # the discard port, which nothing listens on
DAY_NS = 86_400 * 10**9
CONTAINER = {
    "service.namespace": "prod",
    "k8s.cluster.name": "eu-1",
    "k8s.namespace.name": "prod",
    "host.name": "node-1",
}


def environ(url: str, folder: Path) -> dict[str, str]:
    return {"VICTORIALOGS_URL": url, "QUEUE_DIRECTORY": str(folder / "queue")}


def test_victorialogs_gets_the_log_and_the_console_the_rest(
    collector_binary: Path, victorialogs: VictoriaLogs, tmp_path: Path
) -> None:
    """No signal is rejected: VictoriaLogs has the entry, and the Collector's log the rest."""
    kill = SentKill()
    env = environ(victorialogs.url, tmp_path)
    with run_collector(collector_binary, VICTORIALOGS, env=env) as server:
        kill.send(server)
        assert kill.send_metric(server).status == 200
        printed = wait_until_printed(server, kill.trace_id, "oom.kills")
        query = f'service.name:="{kill.service}" event_name:="oom.kill"'
        (entry,) = wait_until(lambda: victorialogs.query(query), "the entry")
    assert entry.time == kill.time
    assert entry.message == f"{kill.service} was killed"
    assert entry.fields["trace_id"] == kill.trace_id
    assert entry.fields["severity_number"] == "21"
    assert f"{kill.service} was killed" not in printed


def test_containers_of_a_service_on_a_host_share_a_stream(
    collector_binary: Path, victorialogs: VictoriaLogs, tmp_path: Path
) -> None:
    """Attributes of containers are in no stream, and can be queried all the same."""
    ids = [secrets.token_hex(32) for _ in range(3)]
    kill = SentKill()
    env = environ(victorialogs.url, tmp_path)
    with run_collector(collector_binary, VICTORIALOGS, env=env) as server:
        for number, container_id in enumerate(ids):
            own = {
                "container.id": container_id,
                "k8s.pod.name": f"shop-{number}",
                "k8s.pod.uid": f"uid-{number}",
                "service.instance.id": f"prod.shop-{number}.web",
            }
            again = SentKill(kill.service, resource={**CONTAINER, **own})
            assert again.send_log(server).status == 200

        def found() -> list[str] | None:
            entries = victorialogs.query(f'service.name:="{kill.service}"')
            return [entry.stream for entry in entries] if len(entries) == len(ids) else None

        streams = wait_until(found, "the entries") or []
        (entry,) = victorialogs.query(f'container.id:="{ids[1]}"')
    wanted = {**CONTAINER, "service.name": kill.service}
    stream = ",".join(f'{name}="{value}"' for name, value in sorted(wanted.items()))
    assert set(streams) == {f"{{{stream}}}"}
    assert entry.fields["k8s.pod.name"] == "shop-1"


@pytest.mark.parametrize("name", RICH_EVENTS)
def test_the_richest_events_arrive_whole(
    collector_binary: Path, victorialogs: VictoriaLogs, tmp_path: Path, name: str
) -> None:
    """The kernel's longest report, and as many attributes as the agent sends."""
    service = f"shop-{secrets.token_hex(4)}"
    env = environ(victorialogs.url, tmp_path)
    with run_collector(collector_binary, VICTORIALOGS, env=env) as server:
        assert http_post(f"{server.http}/v1/logs", RICH_EVENTS[name](service)).status == 200
        query = f'service.name:="{service}"'
        (entry,) = wait_until(lambda: victorialogs.query(query), "the entry")
    assert len(entry.fields["log.record.original"]) == 1 << 15
    assert entry.fields["oom.capture.source"]


def test_the_queue_survives_a_kill_of_the_collector(
    collector_binary: Path, victorialogs: VictoriaLogs, tmp_path: Path
) -> None:
    """A sender that got 200 may forget: first VictoriaLogs was missing, then the Collector."""
    kill = SentKill()
    with run_collector(collector_binary, VICTORIALOGS, env=environ(NOWHERE, tmp_path)) as server:
        wait_until(lambda: is_ok(server.health), "healthy without its backend")
        assert kill.send_log(server).status == 200
        server.process.kill()
    with run_collector(collector_binary, VICTORIALOGS, env=environ(victorialogs.url, tmp_path)):
        query = f'service.name:="{kill.service}"'
        (entry,) = wait_until(lambda: victorialogs.query(query), "the entry", limit=30)
    assert entry.time == kill.time


def test_a_full_queue_is_retryable_for_the_sender(collector_binary: Path, tmp_path: Path) -> None:
    """503, not a 200 and a loss."""
    small: Json = {"exporters": {"otlp_http/victorialogs": {"sending_queue": {"queue_size": 2}}}}
    env = environ(NOWHERE, tmp_path)
    with run_collector(collector_binary, VICTORIALOGS, small, env=env) as server:
        statuses = [SentKill().send_log(server).status for _ in range(20)]
    assert set(statuses) == {200, 503}


def test_victorialogs_drops_what_is_older_than_its_retention(
    collector_binary: Path, victorialogs: VictoriaLogs, tmp_path: Path
) -> None:
    """The comment in the file: a week by default, with a 200 all the same."""
    old, new = SentKill(time=time.time_ns() - 9 * DAY_NS), SentKill()
    env = environ(victorialogs.url, tmp_path)
    with run_collector(collector_binary, VICTORIALOGS, env=env) as server:
        for kill in (old, new):
            assert kill.send_log(server).status == 200
        wait_until(lambda: victorialogs.query(f'service.name:="{new.service}"'), "the new entry")
    wait_until(lambda: old.service in victorialogs.process.output(), "the warning")
    assert "-retentionPeriod=7d" in victorialogs.process.output()
    assert victorialogs.query(f'service.name:="{old.service}"') == []
