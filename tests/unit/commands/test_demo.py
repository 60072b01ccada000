"""The demonstration's page, and its JSON."""

from __future__ import annotations

import json

from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.commands.console.output import UNLIMITED, new_console, render
from otel_oom.commands.demo.show import render_telemetry
from otel_oom.enrich.types import EnrichedKill
from otel_oom.otlp import json as otlp_json
from otel_oom.otlp.encode import encode_log, encode_span
from tests.testlib.samples.events import KILL, sample_enriched_kill


def shown(one: EnrichedKill) -> list[str]:
    log = ExportLogsServiceRequest.FromString(encode_log(one))
    span = ExportTraceServiceRequest.FromString(encode_span(one))
    return render(render_telemetry(log, span), new_console(UNLIMITED)).splitlines()


def test_a_hostile_name_is_escaped() -> None:
    name = "x\x1b]0;pwned\x07\r\n\u202egpj\u200b\x9b31m[red]"
    text = "\n".join(shown(sample_enriched_kill(victim=replace(KILL.victim, comm=name))))
    assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e", "\u200b"} & set(text)
    assert "x\\x1b]0;pwned\\x07\\r\\n\\u202egpj\\u200b\\x9b31m[red]" in text


def test_of_a_long_text_the_first_and_the_last_line_are_shown() -> None:
    lines = shown(
        sample_enriched_kill(original="\n".join(f"line {number}" for number in range(100)))
    )
    start = next(n for n, line in enumerate(lines) if "log.record.original" in line)
    assert [line.split(maxsplit=1) for line in lines[start : start + 3]] == [
        ["log.record.original", "line 0"],
        ["…", "98 lines …"],
        ["line", "99"],
    ]


def test_the_span_shows_its_events_in_milliseconds_from_its_start() -> None:
    lines = shown(sample_enriched_kill())
    start = next(n for n, line in enumerate(lines) if line.startswith("Span oom.kill   250.000 ms"))
    assert [line.split() for line in lines[start + 2 :] if line] == [
        ["0.000", "ms", "●", "oom.victim.marked"],
        ["250.000", "ms", "●", "oom.victim.exited"],
    ]


def test_otlp_json_is_as_the_specification_has_it() -> None:
    request = ExportLogsServiceRequest.FromString(encode_log(sample_enriched_kill()))
    value = json.loads(otlp_json.to_json_line(request))
    record = value["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record["traceId"] == f"{KILL.trace_id:032x}"
    assert record["spanId"] == f"{KILL.span_id:016x}"
    assert record["severityNumber"] == 21
    assert record["timeUnixNano"] == str(KILL.time_unix_ns)
    assert {"key": "process.pid", "value": {"intValue": "4711"}} in record["attributes"]
