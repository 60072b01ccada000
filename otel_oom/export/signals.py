"""The signals of OTLP: paths, methods and messages."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError, Message
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace

from otel_oom.export.result import ExportResponse, ExportResult


class Signal(Struct, frozen=True):
    """One signal of OTLP (opentelemetry/proto/collector)."""

    name: str
    request: type[Message]
    response: type[Message]
    rejected_field: str

    @property
    def path(self) -> str:
        """The path of HTTP requests."""
        return f"/v1/{self.name}"

    @property
    def method(self) -> str:
        """The method of gRPC requests."""
        package, _, request = self.request.DESCRIPTOR.full_name.rpartition(".")
        service = request.removeprefix("Export").removesuffix("Request")
        return f"/{package}.{service}/Export"

    def parse_success(self, content: bytes, *, exact: bool = False) -> ExportResponse | None:
        """Parse the body of a success: all accepted, or some rejected (partial success).

        Return ``None`` for another body; ``exact``: also for one with unknown fields.
        """
        response = self.response()
        try:
            response.ParseFromString(content)
        except DecodeError:
            return None
        response.DiscardUnknownFields()
        if exact and response.ByteSize() != len(content):
            return None
        partial = getattr(response, "partial_success")  # noqa: B009  both responses have it
        return ExportResponse(
            ExportResult.ACCEPTED,
            partial.error_message,
            rejected=getattr(partial, self.rejected_field),
        )


SIGNALS: Final = {
    signal.name: signal
    for signal in (
        Signal(
            "logs",
            logs.ExportLogsServiceRequest,
            logs.ExportLogsServiceResponse,
            rejected_field="rejected_log_records",
        ),
        Signal(
            "traces",
            trace.ExportTraceServiceRequest,
            trace.ExportTraceServiceResponse,
            rejected_field="rejected_spans",
        ),
        Signal(
            "metrics",
            metrics.ExportMetricsServiceRequest,
            metrics.ExportMetricsServiceResponse,
            rejected_field="rejected_data_points",
        ),
    )
}
