"""Log records as messages, compared with those of the official encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_oom.enrich.event import enrich_no_victim, enrich_panic
from otel_oom.otlp.encode import encode_event_log
from otel_oom.otlp.event import Event, build_end_event, build_event, log_fields
from otel_oom.otlp.log_request import build_log_request
from tests.testlib.samples.events import HOST, NO_VICTIM, PANIC, sample_enriched_kill

KILL = build_event(sample_enriched_kill())
END = build_end_event(sample_enriched_kill())
MANY = {f"container.label.{number}": "x" for number in range(200)}


def encode_officially(event: Event) -> ExportLogsServiceRequest:
    """Encode by the SDK's objects."""
    return encode_logs([event.to_readable_record()])


@pytest.mark.unregistered("not in the registry", "required, and absent", "resource")
@pytest.mark.parametrize(
    "event",
    [
        KILL,
        END,
        replace(KILL, attributes=KILL.attributes | MANY),
        replace(KILL, resource={}),
        build_event(enrich_no_victim(NO_VICTIM, NO_VICTIM.time_unix_ns, HOST)),
        build_event(enrich_panic(PANIC, PANIC.time_unix_ns, HOST)),
    ],
    ids=("kill", "end", "more than the limit", "no resource", "no victim", "panic"),
)
def test_a_record_is_that_of_the_official_encoder(event: Event) -> None:
    assert build_log_request(log_fields(event)) == encode_officially(event)


@pytest.mark.unregistered("not in the registry", "required, and absent", "resource")
@pytest.mark.parametrize(
    "attributes",
    [
        {"a": True, "b": False, "c": 0, "d": -(2**63), "e": 0.0, "f": float("inf"), "g": ""},
        {"a": (), "b": ("x", "y"), "c": [1, 2], "d": (1.5,), "e": (True, False), "f": ("ü\n",)},
    ],
)
def test_values_of_each_type(attributes: dict[str, Any]) -> None:
    event = replace(KILL, attributes=attributes, resource=attributes)
    assert build_log_request(log_fields(event)) == encode_officially(event)


@pytest.mark.unregistered("not in the registry", "required, and absent")
@pytest.mark.parametrize(
    "attributes", [{"": "x"}, {"a": None}, {"a": object()}, {"a": 2**64}, {"a": {"b": 1}}, {7: "x"}]
)
def test_what_a_processor_may_set_is_left_to_the_official_encoder(
    attributes: Mapping[Any, Any],
) -> None:
    event = replace(KILL, attributes={"kept": 1, **attributes})
    with pytest.raises((KeyError, TypeError, ValueError)):
        build_log_request(log_fields(event))
    assert encode_event_log(event) == encode_officially(event).SerializeToString()
