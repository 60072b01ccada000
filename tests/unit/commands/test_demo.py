"""What the demonstration puts on the screen and into JSON."""

from __future__ import annotations

import json

from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_oom.commands.demo import show
from otel_oom.otlp import json as otlp_json
from otel_oom.otlp.encode import encode_log, encode_span
from tests.testlib.samples.events import KILL, sample_enriched_kill


def test_a_hostile_name_is_harmless_on_a_terminal() -> None:
    """No control character of a process's name, nor one that turns the text around, gets out."""
    name = "x\x1b]0;pwned\x07\r\n\u202egpj\u200b\x9b31m"
    victim = replace(KILL.victim, comm=name)
    request = ExportLogsServiceRequest.FromString(encode_log(sample_enriched_kill(victim=victim)))
    text = "\n".join(show.log_lines(request))
    assert not {"\x1b", "\x07", "\r", "\x9b", "\u202e", "\u200b"} & set(text)
    assert "x\\x1b]0;pwned\\x07\\r\\n\\u202egpj\\u200b\\x9b31m" in text


def test_a_report_does_not_fill_the_screen() -> None:
    """Of a text of many lines the first and the last are shown, and how many are between."""
    text = "\n".join(f"line {at}" for at in range(100))
    request = ExportLogsServiceRequest.FromString(encode_log(sample_enriched_kill(original=text)))
    lines = list(show.log_lines(request))
    at = next(at for at, line in enumerate(lines) if "log.record.original" in line)
    shown = [line.split(maxsplit=1) for line in lines[at : at + 3]]
    assert shown == [
        ["log.record.original", "line 0"],
        ["…", "98 lines …"],
        ["line", "99"],
    ]


def test_the_timeline_is_in_milliseconds_from_the_mark() -> None:
    """The span shows its stages by their distance to the first."""
    request = ExportTraceServiceRequest.FromString(encode_span(sample_enriched_kill()))
    lines = list(show.span_lines(request))
    assert lines[0].startswith("Span oom.kill   250.000 ms")
    assert [line.split() for line in lines[2:]] == [
        ["0.000", "ms", "●", "oom.victim.marked"],
        ["250.000", "ms", "●", "oom.victim.exited"],
    ]


def test_otlp_json_is_as_the_specification_has_it() -> None:
    """Ids in hexadecimal, enumerations as numbers, 64-bit integers as strings, camel case."""
    request = ExportLogsServiceRequest.FromString(encode_log(sample_enriched_kill()))
    value = json.loads(otlp_json.to_json_line(request))
    record = value["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert record["traceId"] == f"{KILL.trace_id:032x}"
    assert record["spanId"] == f"{KILL.span_id:016x}"
    assert record["severityNumber"] == 21
    assert record["timeUnixNano"] == str(KILL.time_unix_ns)
    assert {"key": "process.pid", "value": {"intValue": "4711"}} in record["attributes"]
