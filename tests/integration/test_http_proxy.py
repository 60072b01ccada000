"""OTLP/HTTP through a proxy, by the variables that every HTTP client reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.config.endpoint import HTTP, Endpoint
from otel_oom.export.http import HttpTransport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.testlib.servers.http_server import HttpServer
from tests.testlib.servers.proxy import Proxy
from tests.testlib.servers.tls import Authority, make_server_context


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Run a proxy."""
    with Proxy() as running:
        yield running


@pytest.fixture
def server() -> Iterator[HttpServer]:
    """Run a backend behind it."""
    with HttpServer() as running:
        yield running


def send(url: str, certificate: Path | None = None) -> ExportResponse:
    """Send once."""
    endpoint = Endpoint("logs", HTTP, f"{url}/v1/logs", certificate=certificate, timeout_s=10)
    with closing(HttpTransport(endpoint)) as transport:
        return transport.send(b"body")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_plain_requests_go_through_the_proxy(
    name: str, scheme: str, proxy: Proxy, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request to an http proxy has the whole URL."""
    monkeypatch.setenv(name, scheme + proxy.address)
    assert send(server.url) == ExportResponse(ExportResult.ACCEPTED)
    assert proxy.requests == [("POST", f"{server.url}/v1/logs", None)]
    assert [request.body for request in server.requests] == [b"body"]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
def test_tls_goes_through_a_tunnel(
    name: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy for https only opens a tunnel: TLS is with the backend itself."""
    authority = Authority(tmp_path / "authority")
    monkeypatch.setenv(name, f"http://{proxy.address}")
    with HttpServer(tls=make_server_context(authority.issue("server"))) as server:
        assert send(server.url, authority.certificate) == ExportResponse(ExportResult.ACCEPTED)
    assert proxy.requests == [("CONNECT", server.url.removeprefix("https://"), None)]
    assert [request.body for request in server.requests] == [b"body"]


def test_only_the_proxy_gets_its_credentials(
    proxy: Proxy, server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User and password of its URL do not reach the backend through the tunnel."""
    monkeypatch.setenv("HTTP_PROXY", f"http://me:s%40cret@{proxy.address}")
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:s%40cret@{proxy.address}")
    assert send(server.url) == ExportResponse(ExportResult.ACCEPTED)
    authority = Authority(tmp_path / "authority")
    with HttpServer(tls=make_server_context(authority.issue("server"))) as secure:
        assert send(secure.url, authority.certificate) == ExportResponse(ExportResult.ACCEPTED)
    assert [credentials for _, _, credentials in proxy.requests] == ["Basic bWU6c0BjcmV0"] * 2
    assert "Proxy-Authorization" not in secure.requests[0].headers


@pytest.mark.parametrize("exempt", ["127.0.0.1", "example.com,127.0.0.1", "*"])
def test_hosts_in_no_proxy_are_reached_directly(
    exempt: str, proxy: Proxy, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", exempt)
    assert send(server.url) == ExportResponse(ExportResult.ACCEPTED)
    assert not proxy.requests


def test_a_proxy_for_the_other_scheme_is_not_used(
    proxy: Proxy, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    assert send(server.url) == ExportResponse(ExportResult.ACCEPTED)
    assert not proxy.requests


@pytest.mark.parametrize(
    "value",
    [
        "socks5://127.0.0.1:1080",
        "http://:3128",
        "http://me:secret@proxy:port",
        "http://se/secret@proxy",
    ],
)
def test_an_invalid_proxy_is_retryable_and_named(
    value: str, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    response = send(server.url)
    assert response.result is ExportResult.RETRYABLE
    assert "HTTP_PROXY" in response.reason
    assert "secret" not in response.reason
    assert not server.requests


def test_a_proxy_that_denies_a_tunnel_is_retryable(
    server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its response is the reason."""
    monkeypatch.setenv("HTTPS_PROXY", server.url)  # it knows no CONNECT
    response = send("https://127.0.0.1:9", Authority(tmp_path / "authority").certificate)
    assert response.result is ExportResult.RETRYABLE
    assert "501" in response.reason
