"""OTLP/HTTP on the wire: what is sent, and what each complete answer means."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

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
def transport(
    server: HttpServer, signal: str = "logs", *, gzipped: bool = False
) -> Iterator[HttpTransport]:
    """A transport to ``server``, closed on leaving."""
    endpoint = Endpoint(signal, HTTP, f"{server.url}/v1/{signal}", gzip=gzipped)
    with closing(HttpTransport(endpoint)) as made:
        yield made


def answer_to(
    status: int, body: bytes = b"", signal: str = "logs", **headers: str
) -> ExportResponse:
    """What the transport makes of one answer."""
    with (
        HttpServer(lambda _: http_response(status, body, **headers)) as server,
        transport(server, signal) as sender,
    ):
        return sender.send(b"x")


def test_the_stored_bytes_are_posted_as_they_are() -> None:
    """A request is a POST of the very bytes, typed as protobuf, under the product's name."""
    body = bytes(range(256)) * 10
    with HttpServer() as server, transport(server) as sender:
        assert sender.send(body) == ExportResponse(ExportResult.ACCEPTED)
    (request,) = server.requests
    assert request.target == "/v1/logs"
    assert request.body == body
    assert request.headers["Content-Type"] == "application/x-protobuf"
    assert request.headers["User-Agent"] == f"otel-oom/{__version__}"
    assert "Content-Encoding" not in request.headers


def test_gzip_is_on_the_wire() -> None:
    """With gzip the body is compressed and said to be."""
    with HttpServer() as server, transport(server, gzipped=True) as sender:
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
    """The user's headers arrive decoded, and win over ours but for the type of the body."""
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


def test_user_and_password_of_the_url_arrive() -> None:
    """Credentials in the endpoint's URL are sent as Basic authorization, decoded."""
    with HttpServer() as server:
        url = server.url.replace("//", "//me:s%40cret@")
        endpoint = read_otlp_config({f"{PREFIX}ENDPOINT": url}).endpoints[0]
        with closing(HttpTransport(endpoint)) as sender:
            assert sender.send(b"x").result is ExportResult.ACCEPTED
    headers = server.requests[0].headers
    assert headers.get_all("Authorization") == ["Basic bWU6c0BjcmV0"]
    assert headers["Host"] == server.url.removeprefix("http://")


def test_the_path_and_query_of_a_signal_are_used_as_they_are() -> None:
    """An endpoint for one signal is the target of its requests, with / when it has no path."""
    with HttpServer() as server:
        for suffix in ("/x/y/?k=v", ""):
            url = server.url + suffix
            endpoint = read_otlp_config({f"{PREFIX}LOGS_ENDPOINT": url}).endpoints[0]
            with closing(HttpTransport(endpoint)) as sender:
                assert sender.send(b"x").result is ExportResult.ACCEPTED
    assert [request.target for request in server.requests] == ["/x/y/?k=v", "/"]


def test_the_connection_is_kept() -> None:
    """Requests after the first use its connection, also after an answer with an error."""
    answers = iter(
        [http_response(200), http_response(503), http_response(400, b"no"), http_response(200)]
    )
    with HttpServer(lambda _: next(answers)) as server, transport(server) as sender:
        verdicts = [sender.send(b"x").result for _ in range(4)]
    assert verdicts == [
        ExportResult.ACCEPTED,
        ExportResult.RETRYABLE,
        ExportResult.REJECTED,
        ExportResult.ACCEPTED,
    ]
    assert server.connections == 1


def test_a_connection_that_was_closed_while_idle_is_replaced() -> None:
    """A server that closes idle connections costs no failed try and no double send."""
    with HttpServer() as server, transport(server) as sender:
        assert sender.send(b"first").result is ExportResult.ACCEPTED
        server.hang_up()
        assert sender.send(b"second").result is ExportResult.ACCEPTED
    assert [request.body for request in server.requests] == [b"first", b"second"]
    assert server.connections == 2


@pytest.mark.parametrize("farewell", ["close", "Close"])
def test_an_announced_end_of_the_connection_is_respected(farewell: str) -> None:
    """After `Connection: close` the next request takes a new connection."""
    answer = http_response(200, Connection=farewell)
    with HttpServer(lambda _: answer) as server, transport(server) as sender:
        assert [sender.send(b"x").result for _ in range(2)] == [ExportResult.ACCEPTED] * 2
    assert server.connections == 2


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_transient_failure_is_sent_again(status: int) -> None:
    """The four transient codes mean later, after a wait of our own when none is asked for."""
    message = Status(message="queue is full").SerializeToString()
    assert answer_to(status, message) == ExportResponse(
        ExportResult.RETRYABLE, f"HTTP {status}: queue is full", retry_after_s=None
    )


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds(status: int) -> None:
    """Retry-After with a number is how many seconds to wait."""
    assert answer_to(status, Retry_After="17").retry_after_s == 17


def test_retry_after_as_a_date() -> None:
    """Retry-After with a date is the time until then, and no less than none."""
    now = datetime.now(UTC)
    later = format_datetime(now + timedelta(seconds=120), usegmt=True)
    past = format_datetime(now - timedelta(seconds=120), usegmt=True)
    wait_s = answer_to(503, Retry_After=later).retry_after_s
    assert wait_s is not None
    assert 60 < wait_s <= 120
    assert answer_to(503, Retry_After=past).retry_after_s == 0


@pytest.mark.parametrize("off", [timedelta(days=-30), timedelta(), timedelta(hours=5)])
def test_a_date_is_read_by_the_clock_of_who_wrote_it(off: timedelta) -> None:
    """A server whose clock is not ours asks for a wait, not for a moment of our clock."""
    theirs = datetime.now(UTC) + off
    answer = answer_to(
        503,
        Date=format_datetime(theirs, usegmt=True),
        Retry_After=format_datetime(theirs + timedelta(seconds=90), usegmt=True),
    )
    assert answer.retry_after_s == 90


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
def test_a_retry_after_without_meaning_is_none(value: str) -> None:
    """A Retry-After in neither form leaves the wait to us."""
    answer = answer_to(503, Retry_After=value)
    assert (answer.result, answer.retry_after_s) == (ExportResult.RETRYABLE, None)


@pytest.mark.parametrize("status", [400, 403, 408, 409, 422, 500, 501, 505])
def test_another_failure_is_final(status: int) -> None:
    """Every other code means never, with the message of the answer's google.rpc.Status."""
    message = Status(code=3, message="bad data").SerializeToString()
    assert answer_to(status, message) == ExportResponse(
        ExportResult.REJECTED, f"HTTP {status}: bad data"
    )


@pytest.mark.parametrize("status", [401, 404, 405])
def test_what_no_message_is_the_cause_of_is_told_apart(status: int) -> None:
    """A place or credentials that are wrong refuse everything, whatever it is."""
    answer = answer_to(status, b"no such thing")
    assert answer == ExportResponse(ExportResult.MISCONFIGURED, f"HTTP {status}: no such thing")


def test_too_much_at_once_is_told_apart() -> None:
    """413 means that less may be taken."""
    assert answer_to(413) == ExportResponse(ExportResult.TOO_LARGE, "HTTP 413")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_with_a_hint(status: int) -> None:
    """It is never success and never followed; where it leads is told, without what is secret."""
    with HttpServer() as elsewhere:
        address = elsewhere.url.removeprefix("http://")
        answer = answer_to(status, Location=f"http://me:secret@{address}/new?token=secret")
    assert answer.result is ExportResult.MISCONFIGURED
    assert f"HTTP {status}: redirected to http://{address}/new" in answer.reason
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in answer.reason
    assert "secret" not in answer.reason
    assert not elsewhere.requests


@pytest.mark.parametrize("location", ["", "http://[broken", "/login", "\x1b[31m"])
def test_a_redirect_to_nowhere_is_one_as_well(location: str) -> None:
    """A redirect needs no target that can be read to be none of success."""
    answer = answer_to(302, Location=location)
    assert answer.result is ExportResult.MISCONFIGURED
    assert answer.reason.startswith("HTTP 302: redirected")
    assert answer.reason.isprintable()


def test_the_words_of_an_error_are_kept_as_one_printable_line() -> None:
    """An error in another form than Status is told in its own words, bounded and harmless."""
    answer = answer_to(404, b"404 page\r\n\x1b[31mnot found\n")
    assert answer.reason.isprintable()
    assert answer.reason.startswith("HTTP 404: 404 page [31mnot found")
    assert answer_to(400).reason == "HTTP 400"
    assert len(answer_to(400, b"<p>" * 100_000).reason) < 1000


def test_rejected_records_are_counted() -> None:
    """A partial success is taken, with the number of what was rejected and the message."""
    logs = ExportLogsServiceResponse()
    logs.partial_success.rejected_log_records = 3
    logs.partial_success.error_message = "too old"
    expected = ExportResponse(ExportResult.ACCEPTED, "too old", rejected=3)
    assert answer_to(200, logs.SerializeToString()) == expected

    traces = ExportTraceServiceResponse()
    traces.partial_success.rejected_spans = 1
    expected = ExportResponse(ExportResult.ACCEPTED, "", rejected=1)
    assert answer_to(200, traces.SerializeToString(), signal="traces") == expected


def test_a_warning_comes_with_success() -> None:
    """A message with nothing rejected is success with a warning."""
    response = ExportLogsServiceResponse()
    response.partial_success.error_message = "deprecated"
    answer = answer_to(200, response.SerializeToString())
    assert answer == ExportResponse(ExportResult.ACCEPTED, "deprecated", rejected=0)


@pytest.mark.parametrize("body", [b"OK", b"\xff\xff\xff", b'{"partialSuccess":{}}'])
@pytest.mark.parametrize("status", [200, 202])
def test_success_in_other_words_is_success(status: int, body: bytes) -> None:
    """Backends exist whose body for success is no protobuf: what they took, they took."""
    assert answer_to(status, body).result is ExportResult.ACCEPTED


def test_no_descriptor_is_left() -> None:
    """A closed transport has closed its connection."""
    with HttpServer() as server, transport(server) as sender:
        sender.send(b"x")
        sender.close()
        wait_until(lambda: server.open == 0, "the server sees the connection end")
