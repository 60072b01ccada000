"""OTLP/gRPC when the backend misbehaves, and over TLS."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import grpc
import pytest

from otel_oom.config.endpoint import GRPC, Endpoint
from otel_oom.config.otlp import read_otlp_config
from otel_oom.export.grpc import GrpcTransport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.testlib.process import free_port
from tests.testlib.servers.closing import assert_close_ends_send
from tests.testlib.servers.grpc_server import Call, GrpcServer
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S, silent_server, unreachable_server
from tests.testlib.servers.recorder import Recorder
from tests.testlib.servers.relay import Relay
from tests.testlib.servers.tls import Authority
from tests.testlib.wait import wait_until

PROMPT_S = 5.0
PREFIX = "OTEL_EXPORTER_OTLP_"


def endpoint(address: str, timeout_s: float = CLIENT_TIMEOUT_S) -> Endpoint:
    """Return an endpoint for logs, without TLS."""
    return Endpoint("logs", GRPC, f"http://{address}", timeout_s=timeout_s)


def never(_: Call, context: grpc.ServicerContext) -> bytes:
    """Respond only when nobody waits any longer."""
    wait_until(lambda: not context.is_active(), "the client gives up", limit=CLIENT_TIMEOUT_S)
    return b""


def test_a_silent_server_is_retryable_after_the_timeout() -> None:
    with (
        GrpcServer(never) as server,
        closing(GrpcTransport(endpoint(server.address, timeout_s=0.5))) as transport,
    ):
        began = time.monotonic()
        response = transport.send(b"x")
        assert 0.4 < time.monotonic() - began < PROMPT_S
    assert response.result is ExportResult.RETRYABLE
    assert "DEADLINE_EXCEEDED" in response.reason


@pytest.mark.parametrize("hang", [silent_server, unreachable_server])
def test_close_ends_a_call_that_still_connects(
    hang: Callable[[], AbstractContextManager[str]],
) -> None:
    """A transport that another thread closes ends at once, also before it is connected."""
    with hang() as address:
        assert_close_ends_send(GrpcTransport(endpoint(address)))


def test_close_ends_a_hanging_call() -> None:
    """A transport that another thread closes ends at once, also while a response is due."""
    with GrpcServer(never) as server:
        assert_close_ends_send(GrpcTransport(endpoint(server.address)))


def test_a_server_that_is_back_is_found_at_once() -> None:
    """Each try after a refused connection has a new one, however long the outage was."""
    port = free_port()
    with closing(GrpcTransport(endpoint(f"127.0.0.1:{port}", timeout_s=5))) as transport:
        response = transport.send(b"x")
        assert response.result is ExportResult.RETRYABLE
        assert "refused" in response.reason
        # Tries enough for gRPC's own back-off to have grown to many seconds.
        began = time.monotonic()
        while time.monotonic() - began < 3:
            assert transport.send(b"x").result is ExportResult.RETRYABLE
            time.sleep(0.2)  # the pace of the tries
        with GrpcServer(port=port):
            wait_until(
                lambda: transport.send(b"x").result is ExportResult.ACCEPTED,
                "it is found",
                limit=1.5,
            )


def test_a_connection_without_responses_is_replaced() -> None:
    """After a timeout the old one may be dead for good."""
    with (
        GrpcServer() as server,
        Relay(server.port) as relay,
        closing(GrpcTransport(endpoint(relay.address, timeout_s=1))) as transport,
    ):
        assert transport.send(b"1").result is ExportResult.ACCEPTED
        relay.go_dead()
        assert transport.send(b"2").result is ExportResult.RETRYABLE
        assert transport.send(b"2").result is ExportResult.ACCEPTED
    assert [call.body for call in server.calls] == [b"1", b"2"]


def secure_transport(address: str, **files: Path) -> GrpcTransport:
    """Create a transport by the user's variables; ``files`` are options in lower case."""
    environ = {f"{PREFIX}{option.upper()}": str(path) for option, path in files.items()}
    own = {f"{PREFIX}PROTOCOL": "grpc", f"{PREFIX}ENDPOINT": address, f"{PREFIX}TIMEOUT": "5"}
    return GrpcTransport(read_otlp_config({**own, **environ}).endpoints[0])


def send(address: str, **files: Path) -> ExportResponse:
    """Send once, over TLS."""
    with closing(secure_transport(address, **files)) as transport:
        return transport.send(b"x")


def test_only_the_configured_ca_is_trusted(tmp_path: Path) -> None:
    """OTEL_EXPORTER_OTLP_CERTIFICATE, with or without https in the URL."""
    authority, other = Authority(tmp_path / "own"), Authority(tmp_path / "other")
    with GrpcServer(identity=authority.issue("server")) as server:
        for address in (server.address, f"https://{server.address}"):
            assert send(address, certificate=authority.certificate) == ExportResponse(
                ExportResult.ACCEPTED
            )
        for files in ({"certificate": other.certificate}, {}):
            response = send(server.address, **files)
            assert response.result is ExportResult.RETRYABLE
            assert "CERTIFICATE_VERIFY_FAILED" in response.reason
    assert len(server.calls) == 2


def test_a_repaired_certificate_file_is_read_again(tmp_path: Path) -> None:
    authority, trusted = Authority(tmp_path / "own"), tmp_path / "trusted.pem"
    trusted.write_bytes(Authority(tmp_path / "other").certificate.read_bytes())
    with (
        GrpcServer(identity=authority.issue("server")) as server,
        closing(secure_transport(server.address, certificate=trusted)) as transport,
    ):
        assert transport.send(b"x").result is ExportResult.RETRYABLE
        trusted.write_bytes(authority.certificate.read_bytes())
        assert transport.send(b"x").result is ExportResult.ACCEPTED


def test_client_certificate(tmp_path: Path) -> None:
    """CLIENT_CERTIFICATE and CLIENT_KEY may be one file."""
    authority = Authority(tmp_path / "own")
    trust = {"certificate": authority.certificate}
    own = authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(own.certificate.read_bytes() + own.key.read_bytes())
    with GrpcServer(identity=authority.issue("server"), clients=authority) as server:
        pair = {"client_certificate": own.certificate, "client_key": own.key}
        assert send(server.address, **trust, **pair) == ExportResponse(ExportResult.ACCEPTED)
        assert send(server.address, **trust, client_certificate=both) == ExportResponse(
            ExportResult.ACCEPTED
        )
        assert send(server.address, **trust).result is ExportResult.RETRYABLE
        stranger = Authority(tmp_path / "other").issue("stranger")
        pair = {"client_certificate": stranger.certificate, "client_key": stranger.key}
        assert send(server.address, **trust, **pair).result is ExportResult.RETRYABLE
    assert len(server.calls) == 2


def test_a_key_of_another_certificate_is_retryable(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "own")
    one, two = authority.issue("one"), authority.issue("two")
    with GrpcServer(identity=authority.issue("server"), clients=authority) as server:
        response = send(
            server.address,
            certificate=authority.certificate,
            client_certificate=one.certificate,
            client_key=two.key,
        )
    assert response.result is ExportResult.RETRYABLE
    assert not server.calls


def test_a_real_collector_accepts_requests(recorder: Recorder) -> None:
    """Also one that is empty, with gzip or without."""
    for gzipped in (False, True):
        endpoint = Endpoint("logs", GRPC, f"http://{recorder.collector.grpc}", gzip=gzipped)
        with closing(GrpcTransport(endpoint)) as transport:
            assert transport.send(b"") == ExportResponse(ExportResult.ACCEPTED)
            assert transport.send(b"\xff\xff").result is ExportResult.REJECTED
