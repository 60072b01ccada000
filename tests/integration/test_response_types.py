"""A success that no OTLP backend sent keeps the message: a portal's page, a proxy's text."""

from __future__ import annotations

import gzip
from contextlib import closing

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otel_oom.config.endpoint import GRPC, HTTP, Endpoint
from otel_oom.export import retry
from otel_oom.export.exporter import SignalExporter, create_transport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.testlib.exporter import Outbox, make_exporter, run_exporter
from tests.testlib.servers.grpc_server import GrpcServer
from tests.testlib.servers.http2_server import Http2Server
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S, HttpServer, http_response
from tests.testlib.servers.jaeger import Jaeger
from tests.testlib.servers.victorialogs import VictoriaLogs
from tests.testlib.wait import wait_until

PAGE = b"\n <!DOCTYPE html><title>Please \x1b[31mlog in</title>" + b"<p>" * 1000
PROTOBUF, JSON = "application/x-protobuf", "application/json"


def partial_success() -> bytes:
    """Return the protobuf of two rejected records."""
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 2
    response.partial_success.error_message = "old"
    return response.SerializeToString()


def respond(status: int, body: bytes, **headers: str) -> ExportResponse:
    """Return the result of a request that is answered so."""
    answer = http_response(status, body, **headers)
    with HttpServer(lambda _: answer) as server:
        endpoint = Endpoint("logs", HTTP, f"{server.url}/v1/logs", timeout_s=CLIENT_TIMEOUT_S)
        with closing(create_transport(endpoint)) as transport:
            return transport.send(b"x")


@pytest.mark.parametrize("status", [200, 201, 202, 203])
@pytest.mark.parametrize(
    "content_type", ["text/html; charset=utf-8", "text/plain", "", PROTOBUF, JSON]
)
def test_a_page_is_no_delivery(status: int, content_type: str) -> None:
    """Whatever type it claims; what came is said in one short line."""
    response = respond(status, PAGE, Content_Type=content_type)
    assert response.result is ExportResult.RETRYABLE
    assert f"HTTP {status}" in response.reason
    assert content_type.partition(";")[0] in response.reason
    assert "Please [31mlog in" in response.reason
    assert response.reason.isprintable()
    assert len(response.reason) <= 501


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"OK"),
        ("", b"OK"),
        ("text/plain", b'{"error": "log in"}'),
        ("application/octet-stream", b"\xff\xff\xff"),
        ("application/xml", b"ok"),
        ("text/plain", b"[" * 10_000),
        ("application/octet-stream", b"\x12\x02hi"),
    ],
)
def test_another_type_needs_a_response_message(content_type: str, body: bytes) -> None:
    assert respond(200, body, Content_Type=content_type).result is ExportResult.RETRYABLE


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, PROTOBUF, b""),
        (200, "", b""),
        (200, "text/html", b""),
        (204, "", b""),
        (201, "", b""),
        (202, "text/plain", b""),
        (200, "Application/X-Protobuf; charset=x", b"\xff\xff"),
        (200, "application/protobuf", b"OK"),
        (200, JSON, b"{}"),
        (202, "application/json; charset=utf-8", b'{"status": "ok"}'),
        (200, "text/plain", b"{}"),
        (200, "", b' {"partialSuccess": {}} '),
    ],
)
def test_what_backends_send_is_a_delivery(status: int, content_type: str, body: bytes) -> None:
    """OTLP's types, no body, or a response message of another type."""
    assert respond(status, body, Content_Type=content_type) == ExportResponse(ExportResult.ACCEPTED)


@pytest.mark.parametrize(
    ("content_type", "encoding", "body"),
    [
        (PROTOBUF, "", partial_success()),
        ("application/octet-stream", "", partial_success()),
        (JSON, "", b'{"partialSuccess": {"rejectedLogRecords": "2", "errorMessage": "old"}}'),
        (JSON, "", b'{"partialSuccess": {"rejectedLogRecords": 2, "errorMessage": "old"}, "a": 1}'),
        (PROTOBUF, "gzip", gzip.compress(partial_success(), mtime=0)),
    ],
)
def test_a_partial_success_is_read(content_type: str, encoding: str, body: bytes) -> None:
    response = respond(200, body, Content_Type=content_type, Content_Encoding=encoding)
    assert response == ExportResponse(ExportResult.ACCEPTED, "old", rejected=2)


def test_a_compressed_page_is_no_delivery() -> None:
    """Nor does it fill the memory."""
    bomb = gzip.compress(PAGE + b" " * 50_000_000)
    response = respond(200, bomb, Content_Type="text/html", Content_Encoding="gzip")
    assert response.result is ExportResult.RETRYABLE
    assert "Please" in response.reason


@pytest.mark.parametrize("status", [101, 103, 511])
def test_a_status_that_no_backend_means_is_retryable(status: int) -> None:
    """511 is a captive portal's (RFC 6585); 1xx precedes a response."""
    assert respond(status, PAGE if status == 511 else b"").result is ExportResult.RETRYABLE


def test_a_captive_portal_empties_no_outbox(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is delivered once the portal is gone."""
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.1)
    page = http_response(200, PAGE, Content_Type="text/html")
    portal = [page] * 2
    outbox.enqueue("a", "b")
    with HttpServer(lambda _: portal.pop() if portal else http_response(200)) as server:
        with run_exporter(make_exporter(outbox.store, server.url)) as running:
            wait_until(lambda: running.is_idle, "it waits", limit=CLIENT_TIMEOUT_S, every=0.01)
            assert outbox.queued_uids() == ["a", "b"]
            outbox.wait_until_empty()
        assert len({request.body for request in server.requests}) == 1
    assert outbox.dead_letters() == []


@pytest.mark.parametrize("status", ["200", "302", "403", "500", "511"])
def test_a_page_instead_of_grpc_is_retryable(status: str) -> None:
    """It has no gRPC status; each message would become a dead letter."""
    headers = ((":status", status), ("content-type", "text/html"))
    with Http2Server(headers, b"<html>") as address:
        endpoint = Endpoint("logs", GRPC, f"http://{address}", timeout_s=CLIENT_TIMEOUT_S)
        with closing(create_transport(endpoint)) as transport:
            assert transport.send(b"x").result is ExportResult.RETRYABLE


def test_a_grpc_response_that_is_too_long_is_retryable() -> None:
    """It is not the request that is too large."""
    with GrpcServer(lambda *_: bytes(5 << 20)) as server:
        endpoint = Endpoint("logs", GRPC, f"http://{server.address}", timeout_s=CLIENT_TIMEOUT_S)
        with closing(create_transport(endpoint)) as transport:
            assert transport.send(b"x").result is ExportResult.RETRYABLE


def test_a_servers_own_unknown_is_a_rejection() -> None:
    headers = ((":status", "200"), ("content-type", "application/grpc"))
    with Http2Server(headers, b"", (("grpc-status", "2"), ("grpc-message", "bug"))) as address:
        endpoint = Endpoint("logs", GRPC, f"http://{address}", timeout_s=CLIENT_TIMEOUT_S)
        with closing(create_transport(endpoint)) as transport:
            response = transport.send(b"x")
    assert response == ExportResponse(ExportResult.REJECTED, "gRPC UNKNOWN: bug")


def deliver(url: str, signal: str, outbox: Outbox) -> None:
    """Send two messages to a real backend at the URL of its signal."""
    endpoint = Endpoint(signal, HTTP, url, timeout_s=CLIENT_TIMEOUT_S)
    outbox.enqueue("a", "b", signal=signal)
    with run_exporter(SignalExporter(outbox.store, endpoint, create_transport(endpoint))):
        outbox.wait_until_empty()
    assert outbox.dead_letters() == []


def test_a_real_victorialogs_accepts(victorialogs: VictoriaLogs, outbox: Outbox) -> None:
    deliver(f"{victorialogs.url}/insert/opentelemetry/v1/logs", "logs", outbox)


def test_a_real_jaeger_accepts(jaeger: Jaeger, outbox: Outbox) -> None:
    deliver(f"{jaeger.http}/v1/traces", "traces", outbox)
