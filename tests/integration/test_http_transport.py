"""OTLP/HTTP on the wire: what is sent, and what each complete response means."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_oom import __version__
from otel_oom.config.endpoint import HTTP, Endpoint
from otel_oom.config.otlp import read_otlp_config
from otel_oom.export.http import HttpTransport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.testlib.servers.http_server import HttpServer, http_response
from tests.testlib.wait import wait_until

PREFIX = "OTEL_EXPORTER_OTLP_"


@contextmanager
def open_transport(
    server: HttpServer, signal: str = "logs", *, gzipped: bool = False
) -> Iterator[HttpTransport]:
    """Yield a transport to ``server``."""
    endpoint = Endpoint(signal, HTTP, f"{server.url}/v1/{signal}", gzip=gzipped)
    with closing(HttpTransport(endpoint)) as made:
        yield made


def respond(status: int, body: bytes = b"", signal: str = "logs", **headers: str) -> ExportResponse:
    """Return the response for one status, body and headers."""
    with (
        HttpServer(lambda _: http_response(status, body, **headers)) as server,
        open_transport(server, signal) as sender,
    ):
        return sender.send(b"x")


def test_the_stored_bytes_are_posted_as_they_are() -> None:
    """A request is a POST of the same bytes, typed as protobuf, under the product's name."""
    body = bytes(range(256)) * 10
    with HttpServer() as server, open_transport(server) as sender:
        assert sender.send(body) == ExportResponse(ExportResult.ACCEPTED)
    (request,) = server.requests
    assert request.target == "/v1/logs"
    assert request.body == body
    assert request.headers["Content-Type"] == "application/x-protobuf"
    product, exporter = request.headers["User-Agent"].split(" ")
    assert product == f"otel-oom/{__version__}"
    assert exporter == f"OTel-OTLP-Exporter-Python/{version('opentelemetry-exporter-otlp')}"
    assert "Content-Encoding" not in request.headers


def test_gzip() -> None:
    with HttpServer() as server, open_transport(server, gzipped=True) as sender:
        assert sender.send(b"x" * 100_000).result is ExportResult.ACCEPTED
    (request,) = server.requests
    assert request.headers["Content-Encoding"] == "gzip"
    assert len(request.body) < 1000
    assert gzip.decompress(request.body) == b"x" * 100_000


@pytest.mark.parametrize(
    ("setting", "name", "received"),
    [
        ("api-key=abc", "api-key", "abc"),
        ("Authorization=Basic%20dTpw%3D", "Authorization", "Basic dTpw="),
        ("user-agent=mine/1", "User-Agent", "mine/1"),
        ("content-type=text/plain", "Content-Type", "application/x-protobuf"),
        ("note=%C3%BC%E4%B8%AD", "note", "ü中"),
    ],
)
def test_headers_arrive_once(setting: str, name: str, received: str) -> None:
    """The user's headers arrive decoded, and win over ours except for the type of the body."""
    with HttpServer() as server:
        endpoint = read_otlp_config(
            {f"{PREFIX}ENDPOINT": server.url, f"{PREFIX}HEADERS": setting}
        ).endpoints[0]
        with closing(HttpTransport(endpoint)) as sender:
            assert sender.send(b"x").result is ExportResult.ACCEPTED
    values = server.requests[0].headers.get_all(name)
    assert values is not None
    # What http.server reads as Latin-1 are the bytes of the wire.
    assert [value.encode("latin-1").decode() for value in values] == [received]


def test_user_and_password_of_the_url_become_basic_authorization() -> None:
    with HttpServer() as server:
        url = server.url.replace("//", "//me:s%40cret@")
        endpoint = read_otlp_config({f"{PREFIX}ENDPOINT": url}).endpoints[0]
        with closing(HttpTransport(endpoint)) as sender:
            assert sender.send(b"x").result is ExportResult.ACCEPTED
    headers = server.requests[0].headers
    assert headers.get_all("Authorization") == ["Basic bWU6c0BjcmV0"]
    assert headers["Host"] == server.url.removeprefix("http://")


def test_the_path_and_query_of_a_signal_are_used_as_they_are() -> None:
    """With / if the endpoint has no path."""
    with HttpServer() as server:
        for suffix in ("/x/y/?k=v", ""):
            url = server.url + suffix
            endpoint = read_otlp_config({f"{PREFIX}LOGS_ENDPOINT": url}).endpoints[0]
            with closing(HttpTransport(endpoint)) as sender:
                assert sender.send(b"x").result is ExportResult.ACCEPTED
    assert [request.target for request in server.requests] == ["/x/y/?k=v", "/"]


def test_the_connection_is_persistent() -> None:
    """Also after a response with an error."""
    answers = iter(
        [http_response(200), http_response(503), http_response(400, b"no"), http_response(200)]
    )
    with HttpServer(lambda _: next(answers)) as server, open_transport(server) as sender:
        results = [sender.send(b"x").result for _ in range(4)]
    assert results == [
        ExportResult.ACCEPTED,
        ExportResult.RETRYABLE,
        ExportResult.REJECTED,
        ExportResult.ACCEPTED,
    ]
    assert server.connections == 1


def test_a_connection_that_was_closed_while_idle_is_replaced() -> None:
    """A server that closes idle connections costs no failed try and no duplicate."""
    with HttpServer() as server, open_transport(server) as sender:
        assert sender.send(b"first").result is ExportResult.ACCEPTED
        server.hang_up()
        assert sender.send(b"second").result is ExportResult.ACCEPTED
    assert [request.body for request in server.requests] == [b"first", b"second"]
    assert server.connections == 2


@pytest.mark.parametrize("farewell", ["close", "Close"])
def test_connection_close_is_respected(farewell: str) -> None:
    response = http_response(200, Connection=farewell)
    with HttpServer(lambda _: response) as server, open_transport(server) as sender:
        assert [sender.send(b"x").result for _ in range(2)] == [ExportResult.ACCEPTED] * 2
    assert server.connections == 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_retryable_status(status: int) -> None:
    message = Status(message="queue is full").SerializeToString()
    assert respond(status, message) == ExportResponse(
        ExportResult.RETRYABLE, f"HTTP {status}: queue is full", retry_after_s=None
    )


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds(status: int) -> None:
    assert respond(status, Retry_After="17").retry_after_s == 17


def test_retry_after_as_a_date() -> None:
    """It is the time until then, and never negative."""
    now = datetime.now(UTC)
    later = format_datetime(now + timedelta(seconds=120), usegmt=True)
    past = format_datetime(now - timedelta(seconds=120), usegmt=True)
    wait_s = respond(503, Retry_After=later).retry_after_s
    assert wait_s is not None
    assert 60 < wait_s <= 120
    assert respond(503, Retry_After=past).retry_after_s == 0


@pytest.mark.parametrize("off", [timedelta(days=-30), timedelta(), timedelta(hours=5)])
def test_a_date_is_relative_to_the_servers_own_clock(off: timedelta) -> None:
    theirs = datetime.now(UTC) + off
    response = respond(
        503,
        Date=format_datetime(theirs, usegmt=True),
        Retry_After=format_datetime(theirs + timedelta(seconds=90), usegmt=True),
    )
    assert response.retry_after_s == 90


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
        "",
        "soon",
        "-5",
        "1.5",
        "Wed, 99 Foo 2026 99:99:99 GMT",
    ],
)
def test_an_invalid_retry_after_is_ignored(value: str) -> None:
    response = respond(503, Retry_After=value)
    assert (response.result, response.retry_after_s) == (ExportResult.RETRYABLE, None)


@pytest.mark.parametrize("status", [400, 403, 408, 409, 422, 500, 501, 505])
def test_all_other_errors_are_rejections(status: int) -> None:
    """With the message of the response's google.rpc.Status."""
    message = Status(code=3, message="bad data").SerializeToString()
    assert respond(status, message) == ExportResponse(
        ExportResult.REJECTED, f"HTTP {status}: bad data"
    )


@pytest.mark.parametrize("status", [401, 404, 405])
def test_status_of_a_misconfigured_endpoint(status: int) -> None:
    response = respond(status, b"no such thing")
    assert response == ExportResponse(ExportResult.MISCONFIGURED, f"HTTP {status}: no such thing")


def test_413_is_too_large() -> None:
    assert respond(413) == ExportResponse(ExportResult.TOO_LARGE, "HTTP 413")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_misconfiguration(status: int) -> None:
    """It is never success and never followed; its target is reported without secrets."""
    with HttpServer() as elsewhere:
        address = elsewhere.url.removeprefix("http://")
        response = respond(status, Location=f"http://me:secret@{address}/new?token=secret")
    assert response.result is ExportResult.MISCONFIGURED
    assert f"HTTP {status}: redirected to http://{address}, which" in response.reason
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in response.reason
    assert "secret" not in response.reason
    assert not elsewhere.requests


@pytest.mark.parametrize("location", ["", "http://[broken", "/login", "\x1b[31m"])
def test_a_redirect_without_a_valid_target(location: str) -> None:
    response = respond(302, Location=location)
    assert response.result is ExportResult.MISCONFIGURED
    assert response.reason.startswith("HTTP 302: redirected")
    assert response.reason.isprintable()


def test_an_error_that_is_no_status_becomes_one_printable_line() -> None:
    response = respond(404, b"404 page\r\n\x1b[31mnot found\n")
    assert response.reason.isprintable()
    assert response.reason.startswith("HTTP 404: 404 page [31mnot found")
    assert respond(400).reason == "HTTP 400"
    assert len(respond(400, b"<p>" * 100_000).reason) < 1000


def test_partial_success() -> None:
    logs = ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = 3
    logs.partial_success.error_message = "too old"
    expected = ExportResponse(ExportResult.ACCEPTED, "too old", rejected=3)
    assert respond(200, logs.SerializeToString()) == expected

    traces = ExportTraceServiceResponse()
    traces.partial_success.rejected_spans = 1
    expected = ExportResponse(ExportResult.ACCEPTED, "", rejected=1)
    assert respond(200, traces.SerializeToString(), signal="traces") == expected


def test_success_with_a_warning() -> None:
    message = ExportLogsServiceResponse()
    message.partial_success.error_message = "deprecated"
    response = respond(200, message.SerializeToString())
    assert response == ExportResponse(ExportResult.ACCEPTED, "deprecated", rejected=0)


def test_a_closed_transport_has_closed_its_connection() -> None:
    with HttpServer() as server, open_transport(server) as sender:
        sender.send(b"x")
        sender.close()
        wait_until(lambda: server.open == 0, "the server sees the connection end")
