"""Log records as OTLP messages, without objects of the SDK in between.

The SDK checks and copies each attribute, and its encoder makes two messages of each. A kill waits
for its log record: this takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_oom import __version__
from otel_oom.otlp.log_record import LogFields
from otel_oom.otlp.semconv import SCHEMA_URL, SCOPE

_SCOPE: Final = InstrumentationScope(name=SCOPE, version=__version__)
_FIELDS: Final = {
    str: "string_value",
    bool: "bool_value",
    int: "int_value",
    float: "double_value",
}
"""The field of ``AnyValue`` for the values of a type, but not of types that derive from it."""


def build_log_request(fields: LogFields) -> ExportLogsServiceRequest:
    """Return a request with one log record, which equals that of the official encoder.

    Raises:
        KeyError, TypeError, ValueError: a value that OTLP does not have, which a user's processor
            may have set. The official encoder converts it, or drops it with a message.
    """
    record = LogRecord(
        time_unix_nano=fields.time_unix_ns,
        observed_time_unix_nano=fields.observed_unix_ns,
        severity_number=fields.severity.value,  # type: ignore[arg-type]  # of the stubs
        body=_any_value(fields.body),
        attributes=_key_values(fields.attributes),
        dropped_attributes_count=fields.dropped,
        event_name=fields.name,
    )
    if fields.span:
        record.trace_id = fields.span.trace_id.to_bytes(16, "big")
        record.span_id = fields.span.span_id.to_bytes(8, "big")
        record.flags = fields.span.trace_flags
    logs = ScopeLogs(scope=_SCOPE, log_records=[record], schema_url=SCHEMA_URL)
    resource = Resource(attributes=_key_values(fields.resource))
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(resource=resource, scope_logs=[logs], schema_url=SCHEMA_URL)]
    )


def _key_values(attributes: Mapping[str, object]) -> Any:  # noqa: ANN401  see _any_value()
    if "" in attributes:
        raise ValueError("an attribute without a name")
    return [{"key": name, "value": _any_value(value)} for name, value in attributes.items()]


def _any_value(value: object) -> Any:  # noqa: ANN401  see below
    """Return the fields of a message, which a constructor takes in its place."""
    if isinstance(value, tuple | list):
        return {"array_value": {"values": [_any_value(item) for item in value]}}
    return {_FIELDS[type(value)]: value}
