"""OTLP/gRPC on the wire: what is sent, and what each response means."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_oom import __version__
from otel_oom.config.endpoint import GRPC, Endpoint
from otel_oom.config.otlp import read_otlp_config
from otel_oom.export.grpc import GrpcTransport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.testlib.servers.grpc_server import Call, GrpcServer
from tests.testlib.servers.relay import Relay

LOGS = "opentelemetry.proto.collector.logs.v1.LogsService"
TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"
RETRYABLE = [
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
]
REJECTED = [
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "INTERNAL",
]
MISCONFIGURED = ["UNAUTHENTICATED", "UNIMPLEMENTED"]
"""The table of the OTLP specification, "OTLP/gRPC Response", Failures."""


@contextmanager
def open_transport(
    address: str, signal: str = "logs", *, gzipped: bool = False
) -> Iterator[GrpcTransport]:
    """Yield a transport without TLS."""
    endpoint = Endpoint(signal, GRPC, f"http://{address}", gzip=gzipped)
    with closing(GrpcTransport(endpoint)) as made:
        yield made


def fail(code: str, *trailers: tuple[str, bytes], words: str = "the words") -> ExportResponse:
    """Return the response to a call that fails with ``code``."""

    def answer(_: Call, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata(trailers)
        context.abort(grpc.StatusCode[code], words)
        raise AssertionError("abort() raises")

    with GrpcServer(answer) as server, open_transport(server.address) as sender:
        return sender.send(b"x")


@pytest.mark.parametrize(("signal", "service"), [("logs", LOGS), ("traces", TRACES)])
def test_the_stored_bytes_are_sent_as_they_are(signal: str, service: str) -> None:
    """A call of the signal's Export has the same bytes, under the product's name."""
    body = bytes(range(256)) * 10
    with GrpcServer() as server, open_transport(server.address, signal) as sender:
        assert sender.send(body) == ExportResponse(ExportResult.ACCEPTED)
    (call,) = server.calls
    assert (call.service, call.body) == (service, body)
    agent = str(call.metadata["user-agent"])
    assert agent.startswith(f"otel-oom/{__version__} OTel-OTLP-Exporter-Python/")


@pytest.mark.parametrize("gzipped", [True, False])
def test_gzip(*, gzipped: bool) -> None:
    """The bytes are compressed on the wire, and arrive as they were."""
    body = b"an OOM kill " * 1000
    with (
        GrpcServer() as server,
        Relay(server.port) as relay,
        open_transport(relay.address, gzipped=gzipped) as sender,
    ):
        assert sender.send(body).result is ExportResult.ACCEPTED
    assert server.calls[0].body == body
    assert (body[:100] in relay.sent) is not gzipped
    assert (len(relay.sent) < 2000) is gzipped


def test_headers_become_metadata() -> None:
    """Decoded, with names in lower case."""
    with GrpcServer() as server:
        environ = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://me:s%40cret@{server.address}",
            "OTEL_EXPORTER_OTLP_HEADERS": "Api-Key=a%2Cb,trace-bin=xyz",
        }
        with closing(GrpcTransport(read_otlp_config(environ).endpoints[0])) as sender:
            assert sender.send(b"x") == ExportResponse(ExportResult.ACCEPTED)
    metadata = server.calls[0].metadata
    assert metadata["api-key"] == "a,b"
    assert metadata["trace-bin"] == b"xyz"
    assert metadata["authorization"] == "Basic bWU6c0BjcmV0"


def test_a_path_in_the_endpoint_is_ignored() -> None:
    """The methods of gRPC have paths of their own."""
    with GrpcServer() as server, open_transport(f"{server.address}/v1/logs") as sender:
        assert sender.send(b"x") == ExportResponse(ExportResult.ACCEPTED)


@pytest.mark.parametrize("code", RETRYABLE)
def test_retryable_codes(code: str) -> None:
    assert fail(code) == ExportResponse(ExportResult.RETRYABLE, f"gRPC {code}: the words")


@pytest.mark.parametrize("code", REJECTED)
def test_all_other_codes_are_rejections(code: str) -> None:
    """Also RESOURCE_EXHAUSTED without a promise of recovery."""
    assert fail(code) == ExportResponse(ExportResult.REJECTED, f"gRPC {code}: the words")


@pytest.mark.parametrize("code", MISCONFIGURED)
def test_codes_of_a_misconfigured_endpoint(code: str) -> None:
    assert fail(code) == ExportResponse(ExportResult.MISCONFIGURED, f"gRPC {code}: the words")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("RESOURCE_EXHAUSTED", "grpc: received message larger than max (5000000 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (5000000 vs. 4194304)"),
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000000"),
        (
            "OUT_OF_RANGE",
            "Error, decoded message length too large: found 5000 bytes, the limit is: 4096 bytes",
        ),
    ],
    ids=["Go", "Python", "Java", "Rust"],
)
def test_a_message_over_the_servers_limit_is_too_large(code: str, words: str) -> None:
    """In the words of each implementation."""
    assert fail(code, words=words) == ExportResponse(
        ExportResult.TOO_LARGE, f"gRPC {code}: {words}"
    )


def test_the_default_limit_of_a_real_server() -> None:
    """It is 4 MiB."""
    with GrpcServer() as server, open_transport(server.address) as sender:
        assert sender.send(b"x" * (5 << 20)).result is ExportResult.TOO_LARGE


def test_a_limit_with_retry_info_is_retryable() -> None:
    """It is a promise: the same request may be sent again."""
    info = RetryInfo(retry_delay=Duration(seconds=1))
    response = fail("RESOURCE_EXHAUSTED", status_details(info), words="quota larger than max")
    assert response.result is ExportResult.RETRYABLE


def test_the_lists_above_have_all_codes() -> None:
    assert {"OK", *RETRYABLE, *REJECTED, *MISCONFIGURED} == {code.name for code in grpc.StatusCode}


def trailer(info: RetryInfo) -> tuple[str, bytes]:
    """Return RetryInfo as a trailer of its own."""
    return "google.rpc.retryinfo-bin", info.SerializeToString()


def status_details(info: RetryInfo) -> tuple[str, bytes]:
    """Return RetryInfo in the details of a status, where others may precede it."""
    status = Status(code=8)
    for detail in (BadRequest(), info):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return "grpc-status-details-bin", status.SerializeToString()


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_retry_info(code: str) -> None:
    """In either form it is the wait, and makes RESOURCE_EXHAUSTED retryable."""
    info = RetryInfo(retry_delay=Duration(seconds=7, nanos=500_000_000))
    expected = ExportResponse(ExportResult.RETRYABLE, f"gRPC {code}: the words", retry_after_s=7.5)
    assert fail(code, trailer(info)) == expected
    assert fail(code, status_details(info)) == expected


@pytest.mark.parametrize("info", [RetryInfo(), RetryInfo(retry_delay=Duration(seconds=-3))])
def test_retry_info_without_a_time(info: RetryInfo) -> None:
    """RetryInfo with no time, or a negative one, still promises recovery."""
    response = fail("RESOURCE_EXHAUSTED", status_details(info))
    assert (response.result, response.retry_after_s) == (ExportResult.RETRYABLE, 0)


@pytest.mark.parametrize("name", ["google.rpc.retryinfo-bin", "grpc-status-details-bin"])
def test_invalid_details_are_ignored(name: str) -> None:
    assert fail("RESOURCE_EXHAUSTED", (name, b"\xff\xff\xff")).result is ExportResult.REJECTED
    response = fail("UNAVAILABLE", (name, b"\xff\xff\xff"))
    assert (response.result, response.retry_after_s) == (ExportResult.RETRYABLE, None)


def test_other_details_do_not_make_exhaustion_retryable() -> None:
    status = Status(code=8)
    packed = AnyMessage()
    packed.Pack(BadRequest())
    status.details.append(packed)
    trailer = ("grpc-status-details-bin", status.SerializeToString())
    assert fail("RESOURCE_EXHAUSTED", trailer).result is ExportResult.REJECTED


def test_partial_success() -> None:
    logs, traces = ExportLogsServiceResponse(), ExportTraceServiceResponse()
    logs.partial_success.rejected_log_records = 3
    logs.partial_success.error_message = "too old"
    traces.partial_success.error_message = "a warning"
    answers = {LOGS: logs.SerializeToString(), TRACES: traces.SerializeToString()}
    with GrpcServer(lambda call, _: answers[call.service]) as server:
        with open_transport(server.address) as sender:
            assert sender.send(b"x") == ExportResponse(ExportResult.ACCEPTED, "too old", rejected=3)
        with open_transport(server.address, "traces") as sender:
            assert sender.send(b"x") == ExportResponse(
                ExportResult.ACCEPTED, "a warning", rejected=0
            )


def test_success_with_another_body_is_success() -> None:
    with (
        GrpcServer(lambda *_: b"\xff\xff\xff") as server,
        open_transport(server.address) as sender,
    ):
        assert sender.send(b"x").result is ExportResult.ACCEPTED
