"""`otel-oom events` and `otel-oom show`: real kills, while the agent runs and after its end."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.model.text import escape_for_terminal
from tests.testlib.agent import run_agent
from tests.testlib.command import CompletedCommand, run_otel_oom
from tests.testlib.kernel.kills import kill_in, kill_one, run_python
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.servers.backend import Backend, Received, attributes_to_dict, filter_kills
from tests.testlib.servers.collector import run_collector
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

LIMIT_S = 60.0
ALL = ("--last", "100000")
IDS = frozenset({"traceId", "spanId", "parentSpanId"})
NOT_SENT = {"OTEL_SDK_DISABLED": "true"}

HOG = """
import sys
open("/proc/self/comm", "wb").write(b"\\x1b[2J\\n\\xff")
open(sys.argv[1], "w").write("0")
held = []
while True:
    held.append(bytearray(1 << 20))
"""
NAME = "\x1b[2J\n\\xff"
"""The name of the hog in its events, with invalid UTF-8 escaped."""


def history(state: Path, *words: str) -> CompletedCommand:
    done = run_otel_oom(*words, "--state-dir", state)
    assert "Traceback" not in done.err
    return done


def shown(state: Path, *words: str) -> str:
    done = history(state, *words)
    assert (done.code, done.err) == (0, ""), done
    return done.out


def request(line: str) -> ExportLogsServiceRequest | ExportTraceServiceRequest:
    value = json.loads(line)
    message = ExportLogsServiceRequest if "resourceLogs" in value else ExportTraceServiceRequest
    return ParseDict(_base64_ids(value), message())


def _base64_ids(value: Any) -> Any:  # noqa: ANN401  JSON
    if isinstance(value, dict):
        return {
            name: b64encode(bytes.fromhex(item)).decode() if name in IDS else _base64_ids(item)
            for name, item in value.items()
        }
    return [_base64_ids(item) for item in value] if isinstance(value, list) else value


def check_same(line: str, received: Received) -> None:
    one = request(line)
    if isinstance(one, ExportLogsServiceRequest):
        (group,) = one.resource_logs
        (item,) = group.scope_logs[0].log_records
        assert item == received.item
    else:
        (traces,) = one.resource_spans
        (span,) = traces.scope_spans[0].spans
        assert span == received.item
    resource = one.resource_logs if isinstance(one, ExportLogsServiceRequest) else None
    attributes = (resource or one.resource_spans)[0].resource.attributes  # type: ignore[union-attr]
    assert attributes_to_dict(attributes) == received.resource


def test_a_delivered_kill_is_shown_as_the_backend_has_it(tmp_path: Path) -> None:
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=only-the-agent-knows",
        }
        with run_agent(tmp_path, environ) as running:
            state = running.state_dir
            first, pid = kill_one(), kill_one()
            backend.wait_for_kills([first, pid], within_s=LIMIT_S)
            (log,), (span,) = filter_kills(backend.logs, [pid]), filter_kills(backend.spans, [pid])
            wait_until(
                lambda: shown(state, "show", str(pid)).count("accepted by the backend") == 2,
                "its answer is noted",
                limit=LIMIT_S,
            )
            working = outputs(state, log.uid)
            assert shown(state, "show", str(pid), "--json") == working[0]
            lines = shown(state, "events", *ALL, "--json").splitlines()
            assert running.stop() == 0
    received_log, received_span = working[0].splitlines()
    check_same(received_log, log)
    check_same(received_span, span)
    assert log.resource["deployment.environment.name"] == "only-the-agent-knows"
    # The host may have kills of its own at the same time.
    assert [one for one in map(_pid, lines) if one in {first, pid}] == [first, pid]
    assert outputs(state, log.uid) == working


def outputs(state: Path, uid: str) -> tuple[str, str, list[str]]:
    events = shown(state, "events", *ALL).splitlines()
    (line,) = (columns for columns in map(str.split, events) if uid[:8] in columns)
    return shown(state, "show", uid[:13], "--json"), shown(state, "show", uid), line


def _pid(line: str) -> int | None:
    one = request(line)
    assert isinstance(one, ExportLogsServiceRequest)
    (record,) = one.resource_logs[0].scope_logs[0].log_records
    pid: int | None = attributes_to_dict(record.attributes).get("process.pid")
    return pid


def test_a_hostile_name_in_the_list_and_on_the_page(tmp_path: Path) -> None:
    with run_agent(tmp_path, NOT_SENT) as running, own_memcg() as memcg:
        with run_python(HOG, memcg.procs) as hog:
            assert hog.wait(LIMIT_S) == -9
        state, pid = running.state_dir, str(hog.pid)
        wait_until(lambda: history(state, "show", pid).code == 0, "it is stored", limit=LIMIT_S)
        page, listed = shown(state, "show", pid), shown(state, "events", *ALL)
        log, _ = shown(state, "show", pid, "--json").splitlines()
    for text in (page, listed):
        assert escape_for_terminal(NAME) in text
        assert all(line.isprintable() for line in text.split("\n"))
    assert any(
        attribute["value"].get("stringValue") == NAME
        for attribute in json.loads(log)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0][
            "attributes"
        ]
    )


def test_a_pending_kill_is_shown_as_far_as_it_is_known(tmp_path: Path) -> None:
    stored = ("Top memory consumers", "victim exited, by signal 9")
    # The cgroup stays until it was looked at.
    with run_agent(tmp_path, NOT_SENT) as running, own_memcg() as memcg:
        state, pid = running.state_dir, str(kill_in(memcg))
        wait_until(
            lambda: all(text in history(state, "show", pid).out for text in stored),
            "it is stored, with snapshot and exit",
            limit=LIMIT_S,
        )
        page, before = shown(state, "show", pid), shown(state, "show", pid, "--json")
        assert running.stop() == 0
    assert page.count("pending: ") == 2
    assert memcg.path in page
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}),
    ):
        backend.wait_for_kills([int(pid)], within_s=LIMIT_S)
    log, span = map(request, before.splitlines())
    assert isinstance(log, ExportLogsServiceRequest)
    assert isinstance(span, ExportTraceServiceRequest)
    (received_log,) = filter_kills(backend.logs, [int(pid)])
    (received_span,) = filter_kills(backend.spans, [int(pid)])
    (record,) = log.resource_logs[0].scope_logs[0].log_records
    assert attributes_to_dict(record.attributes)["log.record.uid"] == received_log.uid
    assert record.body == received_log.item.body
    assert span.resource_spans[0].scope_spans[0].spans[0].span_id == received_span.item.span_id


def test_a_real_collector_reads_the_lines(tmp_path: Path, collector_binary: Path) -> None:
    with run_agent(tmp_path, NOT_SENT) as running:
        state, pids = running.state_dir, [str(kill_one()), str(kill_one())]
        wait_until(
            lambda: all(history(state, "show", pid).code == 0 for pid in pids),
            "stored",
            limit=LIMIT_S,
        )
        lines = shown(state, "show", pids[0], "--json") + shown(state, "show", pids[1], "--json")
    (tmp_path / "shown.jsonl").write_text(lines, encoding="utf-8")
    config = {
        "receivers": {
            "otlpjsonfile": {"include": [str(tmp_path / "shown.jsonl")], "start_at": "beginning"}
        },
        "exporters": {"file": {"path": str(tmp_path / "read.jsonl"), "flush_interval": "50ms"}},
        "service": {
            "pipelines": {
                signal: {"receivers": ["otlpjsonfile"], "exporters": ["file"]}
                for signal in ("logs", "traces")
            }
        },
    }
    with run_collector(collector_binary, config):
        wait_until(lambda: len(_ids(tmp_path / "read.jsonl")) >= 4, "it is read", limit=LIMIT_S)
    assert sorted(_ids(tmp_path / "read.jsonl")) == sorted(_ids(tmp_path / "shown.jsonl"))


def _ids(file: Path) -> list[tuple[str, str, str]]:
    found = []
    *lines, _half_written = file.read_text(encoding="utf-8").split("\n") if file.exists() else [""]
    for line in lines:
        value = json.loads(line)
        items = [
            item
            for group in value.get("resourceLogs", []) + value.get("resourceSpans", [])
            for scope in group.get("scopeLogs", []) + group.get("scopeSpans", [])
            for item in scope.get("logRecords", []) + scope.get("spans", [])
        ]
        kind = "log" if "resourceLogs" in value else "span"
        found += [(kind, item["traceId"], item["spanId"]) for item in items]
    return found
