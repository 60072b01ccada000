"""collector-config/loki.yaml in front of the real Loki at LOKI_URL; without it not collected."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

import pytest

from tests.testlib.repository import REPOSITORY
from tests.testlib.samples.rich_events import RICH_EVENTS
from tests.testlib.servers.collector import run_collector
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.sent_kill import SentKill
from tests.testlib.servers.web import Json, http_get, http_post
from tests.testlib.wait import wait_until

LOKI = REPOSITORY / "collector-config/loki.yaml"
HOUR_NS = 3600 * 10**9

__test__ = "LOKI_URL" in os.environ  # pytest collects nothing from a module where this is false


def query(logql: str) -> list[Json]:
    """Return the streams that a LogQL query finds, from an hour ago to an hour from now."""
    now = time.time_ns()
    params = {"query": logql, "start": str(now - HOUR_NS), "end": str(now + HOUR_NS)}
    url = f"{os.environ['LOKI_URL']}/loki/api/v1/query_range"
    return list(http_get(url, params).json()["data"]["result"])


@pytest.mark.parametrize("name", RICH_EVENTS)
def test_loki_stores_what_the_receiver_stores(collector_binary: Path, name: str) -> None:
    """Labels and structured metadata, the line and its time."""
    service = f"shop-{secrets.token_hex(4)}"
    body = RICH_EVENTS[name](service)
    with LokiReceiver() as receiver:
        for url in (os.environ["LOKI_URL"], receiver.url):
            with run_collector(collector_binary, LOKI, env={"LOKI_URL": url}) as server:
                assert http_post(f"{server.http}/v1/logs", body).status == 200
    (entry,) = receiver.entries
    logql = f'{{service_name="{service}"}} | event_name!=""'
    (stream,) = wait_until(lambda: query(logql), f"{logql} in Loki", limit=30)
    assert entry.fields.items() <= stream["stream"].items()
    assert stream["values"] == [[str(entry.time), entry.line]]


def test_loki_rejects_what_is_older_than_a_week(collector_binary: Path) -> None:
    """Like the receiver of the tests."""
    kill = SentKill(time=time.time_ns() - 8 * 24 * HOUR_NS)
    with run_collector(collector_binary, LOKI, env={"LOKI_URL": os.environ["LOKI_URL"]}) as server:
        assert kill.send_log(server).status == 400
