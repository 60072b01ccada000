"""OTLP/HTTP over TLS: trusted authorities and client certificates."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.config.otlp import read_otlp_config
from otel_oom.export.http import HttpTransport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.testlib.servers.http_server import HttpServer
from tests.testlib.servers.tls import Authority, Identity, make_server_context

PREFIX = "OTEL_EXPORTER_OTLP_"

_PLAIN_THEN_TLS = """
import sys
from pathlib import Path
from otel_oom.export.http import HttpTransport
from otel_oom.config.endpoint import HTTP, Endpoint

plain, secure, certificate = sys.argv[1:]
first = HttpTransport(Endpoint("logs", HTTP, plain))
second = HttpTransport(Endpoint("traces", HTTP, secure, certificate=Path(certificate)))
print("ssl" in sys.modules, first.send(b"x").result.name)
print("ssl" in sys.modules, second.send(b"x").result.name)
print("ssl" in sys.modules, first.send(b"x").result.name)
first.close()
second.close()
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Create the authority of the server's certificate."""
    return Authority(tmp_path / "authority")


@pytest.fixture
def server(authority: Authority) -> Iterator[HttpServer]:
    """Run a server with TLS that requests no certificate."""
    with HttpServer(tls=make_server_context(authority.issue("server"))) as running:
        yield running


@pytest.fixture
def strict_server(authority: Authority) -> Iterator[HttpServer]:
    """Run a server that requires a certificate of the authority."""
    context = make_server_context(authority.issue("server"), clients=authority)
    with HttpServer(tls=context) as running:
        yield running


def make_transport(server: HttpServer, **files: Path) -> HttpTransport:
    """Create a transport by the user's variables; ``files`` are options in lower case."""
    environ = {f"{PREFIX}{option.upper()}": str(path) for option, path in files.items()}
    return HttpTransport(
        read_otlp_config({f"{PREFIX}ENDPOINT": server.url, **environ}).endpoints[0]
    )


def send(server: HttpServer, **files: Path) -> ExportResponse:
    """Send once."""
    with closing(make_transport(server, **files)) as sender:
        return sender.send(b"x")


def test_the_configured_ca_is_trusted(server: HttpServer, authority: Authority) -> None:
    """And the connection is persistent."""
    with closing(make_transport(server, certificate=authority.certificate)) as sender:
        assert [sender.send(b"x") for _ in range(2)] == [ExportResponse(ExportResult.ACCEPTED)] * 2
    assert server.connections == 1


def test_a_connection_that_was_closed_while_idle_is_replaced(
    server: HttpServer, authority: Authority
) -> None:
    """A server that ends an idle connection, without a TLS alert, costs no failed try."""
    with closing(make_transport(server, certificate=authority.certificate)) as sender:
        assert sender.send(b"first").result is ExportResult.ACCEPTED
        server.hang_up()
        assert sender.send(b"second").result is ExportResult.ACCEPTED
    assert [request.body for request in server.requests] == [b"first", b"second"]


def test_openssl_is_loaded_when_it_is_needed(server: HttpServer, authority: Authority) -> None:
    """A process that has sent in plain text has no OpenSSL loaded, and can still use TLS."""
    with HttpServer() as plain:
        command = [sys.executable, "-c", _PLAIN_THEN_TLS, plain.url, server.url]
        done = subprocess.run(
            [*command, authority.certificate],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "ACCEPTED", "False", "ACCEPTED", "True", "ACCEPTED"]
    assert (plain.connections, server.connections) == (1, 1)


def test_another_authority_is_not_trusted(server: HttpServer, tmp_path: Path) -> None:
    """It is retryable: the certificate may be replaced."""
    other = Authority(tmp_path / "other")
    for files in ({"certificate": other.certificate}, {}):
        response = send(server, **files)
        assert response.result is ExportResult.RETRYABLE
        assert "certificate verify failed" in response.reason
        assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in response.reason
    assert not server.requests


def test_a_repaired_certificate_file_is_read_again(
    server: HttpServer, authority: Authority, tmp_path: Path
) -> None:
    """Each connection reads the file."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(Authority(tmp_path / "other").certificate.read_bytes())
    with closing(make_transport(server, certificate=trusted)) as sender:
        assert sender.send(b"x").result is ExportResult.RETRYABLE
        trusted.write_bytes(authority.certificate.read_bytes())
        assert sender.send(b"x").result is ExportResult.ACCEPTED


def test_a_server_without_tls_is_retryable_with_advice() -> None:
    with HttpServer() as plain:
        secure = read_otlp_config(
            {f"{PREFIX}ENDPOINT": plain.url.replace("http:", "https:")}
        ).endpoints[0]
        with closing(HttpTransport(secure)) as sender:
            response = sender.send(b"x")
    assert response.result is ExportResult.RETRYABLE
    assert "http:// instead of https://" in response.reason


def test_the_certificate_must_be_for_the_host(authority: Authority) -> None:
    """A trusted certificate for another name is not enough."""
    elsewhere = authority.issue("elsewhere", hosts="DNS:otlp.example.com,IP:127.0.0.2")
    with HttpServer(tls=make_server_context(elsewhere)) as server:
        response = send(server, certificate=authority.certificate)
    assert response.result is ExportResult.RETRYABLE
    assert "127.0.0.1" in response.reason
    assert not server.requests


def test_client_certificate(strict_server: HttpServer, authority: Authority) -> None:
    own = authority.issue("client")
    response = send(
        strict_server,
        certificate=authority.certificate,
        client_certificate=own.certificate,
        client_key=own.key,
    )
    assert response == ExportResponse(ExportResult.ACCEPTED)


def test_certificate_and_key_may_be_one_file(
    strict_server: HttpServer, authority: Authority, tmp_path: Path
) -> None:
    """CLIENT_CERTIFICATE alone is enough if its file has the key as well."""
    own = authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(own.certificate.read_bytes() + own.key.read_bytes())
    response = send(strict_server, certificate=authority.certificate, client_certificate=both)
    assert response == ExportResponse(ExportResult.ACCEPTED)


def test_a_missing_or_foreign_client_certificate_is_retryable(
    strict_server: HttpServer, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "other").issue("stranger")
    for own in ({}, {"client_certificate": stranger.certificate, "client_key": stranger.key}):
        response = send(strict_server, certificate=authority.certificate, **own)
        assert response.result is ExportResult.RETRYABLE
        assert response.reason
    assert not strict_server.requests


def test_wrong_or_removed_files_are_retryable(server: HttpServer, authority: Authority) -> None:
    """A key of another certificate, or a file removed since the start."""
    one, two = authority.issue("one"), authority.issue("two")
    mixed = Identity(one.certificate, two.key)
    files = {
        "certificate": authority.certificate,
        "client_certificate": mixed.certificate,
        "client_key": mixed.key,
    }
    response = send(server, **files)
    assert response.result is ExportResult.RETRYABLE
    assert "mismatch" in response.reason.lower()
    with closing(make_transport(server, certificate=authority.certificate)) as sender:
        authority.certificate.unlink()
        assert sender.send(b"x").result is ExportResult.RETRYABLE
