"""collector-config/loki.yaml in front of a receiver that enforces Loki's documentation."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path

import pytest

from tests.testlib.repository import REPOSITORY
from tests.testlib.samples.rich_events import RICH_EVENTS
from tests.testlib.servers.collector import run_collector
from tests.testlib.servers.loki_entry import read_documented_labels, read_index_labels
from tests.testlib.servers.loki_limits import Limits
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.sent_kill import SentKill, wait_until_printed
from tests.testlib.servers.web import http_post

BACKENDS = REPOSITORY / "docs/backends.md"
LOKI = REPOSITORY / "collector-config/loki.yaml"
DAY_NS = 86_400 * 10**9


def test_loki_gets_the_log_and_the_console_the_rest(
    collector_binary: Path, loki_receiver: LokiReceiver
) -> None:
    """No signal is rejected: Loki has the line, and the Collector's log the rest."""
    kill = SentKill()
    with run_collector(collector_binary, LOKI, env={"LOKI_URL": loki_receiver.url}) as server:
        kill.send(server)
        assert kill.send_metric(server).status == 200
        printed = wait_until_printed(server, kill.trace_id, "oom.kills")
    (entry,) = loki_receiver.find(service_name=kill.service)
    assert entry.labels == {"service_name": kill.service, "oom_event": "oom.kill"}
    assert entry.time == kill.time
    assert entry.line == f"{kill.service} was killed"
    assert entry.fields["trace_id"] == kill.trace_id
    assert f"{kill.service} was killed" not in printed


def test_the_events_name_is_an_attribute_for_older_versions(
    collector_binary: Path, loki_receiver: LokiReceiver
) -> None:
    """Loki stores the record's own event name since 3.8; here it comes twice."""
    kill = SentKill()
    with run_collector(collector_binary, LOKI, env={"LOKI_URL": loki_receiver.url}) as server:
        assert kill.send_log(server).status == 200
    (entry,) = loki_receiver.find(service_name=kill.service)
    assert entry.metadata.count(("event_name", "oom.kill")) == 2


def test_a_query_for_kills_reads_the_streams_of_kills_only(
    collector_binary: Path, loki_receiver: LokiReceiver
) -> None:
    """Logs and other events of the same resource, in the same request, are in other streams."""
    kill = SentKill()
    names = ("oom.kill", "", "session.start", "oom.victim.exited", "oom.kill")
    page = BACKENDS.read_text(encoding="utf-8")
    documented = re.findall(r'\{oom_event="oom\.kill"\}', page)
    assert documented
    with run_collector(collector_binary, LOKI, env={"LOKI_URL": loki_receiver.url}) as server:
        assert kill.send_logs(server, *names).status == 200
    assert len(loki_receiver.find(service_name=kill.service)) == len(names)
    entries = loki_receiver.read_streams(documented[0])
    assert {entry.fields["event_name"] for entry in entries} == {"oom.kill"}
    assert [entry.labels["service_name"] for entry in entries].count(kill.service) == 2
    (plain,) = loki_receiver.find(service_name=kill.service, event_name="session.start")
    assert plain.labels == {"service_name": kill.service}


def test_the_page_has_the_lines_that_loki_needs() -> None:
    """The page and the comment of the file agree."""
    (documented,) = re.findall(
        r"(?ms)^```yaml\n(limits_config:.*?)^```", BACKENDS.read_text("utf-8")
    )
    assert read_index_labels(documented) == read_documented_labels()


def test_a_loki_without_the_label_has_it_as_metadata(collector_binary: Path) -> None:
    """So the longer query of the comment finds the kills there."""
    kill = SentKill()
    with (
        LokiReceiver() as loki,
        run_collector(collector_binary, LOKI, env={"LOKI_URL": loki.url}) as server,
    ):
        assert kill.send_log(server).status == 200
    (entry,) = loki.entries
    assert entry.labels == {"service_name": kill.service}
    assert entry.metadata.count(("oom_event", "oom.kill")) == 1


@pytest.mark.parametrize("name", RICH_EVENTS)
def test_the_richest_events_are_within_the_limits(
    collector_binary: Path, loki_receiver: LokiReceiver, name: str
) -> None:
    """The kernel's longest report, and as many attributes as the agent sends."""
    service = f"shop-{secrets.token_hex(4)}"
    with run_collector(collector_binary, LOKI, env={"LOKI_URL": loki_receiver.url}) as server:
        reply = http_post(f"{server.http}/v1/logs", RICH_EVENTS[name](service))
    assert (reply.status, loki_receiver.rejections) == (200, [])
    (entry,) = loki_receiver.find(service_name=service)
    assert len(entry.fields["log_record_original"]) == 1 << 15
    assert "host_name" not in entry.labels


def test_a_final_rejection_by_loki_is_final_for_the_sender(collector_binary: Path) -> None:
    """A record older than a week must not be sent again and again."""
    kill = SentKill(time=time.time_ns() - 8 * DAY_NS)
    with (
        LokiReceiver() as loki,
        run_collector(collector_binary, LOKI, env={"LOKI_URL": loki.url}) as server,
    ):
        reply = kill.send_log(server)
    assert [rejection.reason for rejection in loki.rejections] == ["greater_than_max_sample_age"]
    assert reply.status == 400


def test_a_rate_limit_of_loki_is_retryable_for_the_sender(collector_binary: Path) -> None:
    """Here the limit of streams."""
    limits = Limits(max_global_streams_per_user=1)
    with (
        LokiReceiver(limits) as loki,
        run_collector(collector_binary, LOKI, env={"LOKI_URL": loki.url}) as server,
    ):
        assert SentKill().send_log(server).status == 200
        reply = SentKill().send_log(server)
    assert [rejection.reason for rejection in loki.rejections] == ["stream_limit"]
    assert reply.status in {429, 503}
