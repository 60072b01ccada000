"""The signals of OTLP: paths, methods and messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_oom.export.result import ExportResponse, ExportResult, sanitize_reason


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal of OTLP (opentelemetry/proto/collector)."""

    name: str
    path: str
    method: str
    request: type[Message]
    response: type[Message]
    rejected_field: str

    def parse_success(self, content: bytes) -> ExportResponse:
        """Parse the body of a success: all accepted, or some rejected (partial success)."""
        response = self.response()
        try:
            response.ParseFromString(content)
        except DecodeError:
            # Some backends send a body of their own with success.
            return ExportResponse(ExportResult.ACCEPTED)
        partial = getattr(response, "partial_success")  # noqa: B009  both responses have it
        return ExportResponse(
            ExportResult.ACCEPTED,
            sanitize_reason(partial.error_message),
            rejected=getattr(partial, self.rejected_field),
        )


SIGNALS: Final = {
    signal.name: signal
    for signal in (
        Signal(
            name="logs",
            path="/v1/logs",
            method="/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            request=ExportLogsServiceRequest,
            response=ExportLogsServiceResponse,
            rejected_field="rejected_log_records",
        ),
        Signal(
            name="traces",
            path="/v1/traces",
            method="/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            request=ExportTraceServiceRequest,
            response=ExportTraceServiceResponse,
            rejected_field="rejected_spans",
        ),
        Signal(
            name="metrics",
            path="/v1/metrics",
            method="/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            request=ExportMetricsServiceRequest,
            response=ExportMetricsServiceResponse,
            rejected_field="rejected_data_points",
        ),
    )
}
