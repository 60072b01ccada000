"""OTLP/HTTP over TLS: whom it trusts, and how it says who it is."""

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
    """The authority that the server's certificate is by."""
    return Authority(tmp_path / "authority")


@pytest.fixture
def server(authority: Authority) -> Iterator[HttpServer]:
    """A server with TLS that asks nobody for a certificate."""
    with HttpServer(tls=make_server_context(authority.issue("server"))) as running:
        yield running


@pytest.fixture
def strict_server(authority: Authority) -> Iterator[HttpServer]:
    """A server that lets in only who shows a certificate by the authority."""
    context = make_server_context(authority.issue("server"), clients=authority)
    with HttpServer(tls=context) as running:
        yield running


def transport(server: HttpServer, **files: Path) -> HttpTransport:
    """A transport by the user's variables; ``files`` are options in lower case."""
    environ = {f"{PREFIX}{option.upper()}": str(path) for option, path in files.items()}
    return HttpTransport(
        read_otlp_config({f"{PREFIX}ENDPOINT": server.url, **environ}).endpoints[0]
    )


def send(server: HttpServer, **files: Path) -> ExportResponse:
    """Send once."""
    with closing(transport(server, **files)) as sender:
        return sender.send(b"x")


def test_a_certificate_by_the_named_authority_is_trusted(
    server: HttpServer, authority: Authority
) -> None:
    """OTEL_EXPORTER_OTLP_CERTIFICATE names whom to trust; the connection is kept as well."""
    with closing(transport(server, certificate=authority.certificate)) as sender:
        assert [sender.send(b"x") for _ in range(2)] == [ExportResponse(ExportResult.ACCEPTED)] * 2
    assert server.connections == 1


def test_a_connection_that_was_closed_while_idle_is_replaced(
    server: HttpServer, authority: Authority
) -> None:
    """A server that ends an idle connection, without a word of TLS, costs no failed try."""
    with closing(transport(server, certificate=authority.certificate)) as sender:
        assert sender.send(b"first").result is ExportResult.ACCEPTED
        server.hang_up()
        assert sender.send(b"second").result is ExportResult.ACCEPTED
    assert [request.body for request in server.requests] == [b"first", b"second"]


def test_openssl_is_loaded_when_it_is_needed(server: HttpServer, authority: Authority) -> None:
    """A process that has sent in plain text carries no OpenSSL, and can use TLS all the same."""
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
    """A server by somebody else gets nothing; it may be mended, so it is tried again."""
    other = Authority(tmp_path / "other")
    for files in ({"certificate": other.certificate}, {}):
        answer = send(server, **files)
        assert answer.result is ExportResult.RETRYABLE
        assert "certificate verify failed" in answer.reason
        assert "OTEL_EXPORTER_OTLP_CERTIFICATE" in answer.reason
    assert not server.requests


def test_a_certificate_that_is_mended_is_trusted(
    server: HttpServer, authority: Authority, tmp_path: Path
) -> None:
    """Whom to trust is read anew for each connection: mending the file is enough."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(Authority(tmp_path / "other").certificate.read_bytes())
    with closing(transport(server, certificate=trusted)) as sender:
        assert sender.send(b"x").result is ExportResult.RETRYABLE
        trusted.write_bytes(authority.certificate.read_bytes())
        assert sender.send(b"x").result is ExportResult.ACCEPTED


def test_a_server_without_tls_is_told() -> None:
    """An https:// endpoint that speaks plain HTTP means later, with what may be wrong."""
    with HttpServer() as plain:
        secure = read_otlp_config(
            {f"{PREFIX}ENDPOINT": plain.url.replace("http:", "https:")}
        ).endpoints[0]
        with closing(HttpTransport(secure)) as sender:
            answer = sender.send(b"x")
    assert answer.result is ExportResult.RETRYABLE
    assert "http:// instead of https://" in answer.reason


def test_the_certificate_must_be_for_the_host(authority: Authority) -> None:
    """A trusted certificate for another name is not enough."""
    elsewhere = authority.issue("elsewhere", hosts="DNS:otlp.example.com,IP:127.0.0.2")
    with HttpServer(tls=make_server_context(elsewhere)) as server:
        answer = send(server, certificate=authority.certificate)
    assert answer.result is ExportResult.RETRYABLE
    assert "127.0.0.1" in answer.reason
    assert not server.requests


def test_a_client_shows_its_certificate(strict_server: HttpServer, authority: Authority) -> None:
    """CLIENT_CERTIFICATE and CLIENT_KEY are who we are to a server that asks."""
    own = authority.issue("client")
    answer = send(
        strict_server,
        certificate=authority.certificate,
        client_certificate=own.certificate,
        client_key=own.key,
    )
    assert answer == ExportResponse(ExportResult.ACCEPTED)


def test_certificate_and_key_may_be_one_file(
    strict_server: HttpServer, authority: Authority, tmp_path: Path
) -> None:
    """CLIENT_CERTIFICATE alone will do when its file holds the key as well."""
    own = authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(own.certificate.read_bytes() + own.key.read_bytes())
    answer = send(strict_server, certificate=authority.certificate, client_certificate=both)
    assert answer == ExportResponse(ExportResult.ACCEPTED)


def test_a_client_that_must_show_a_certificate_is_told(
    strict_server: HttpServer, authority: Authority, tmp_path: Path
) -> None:
    """Without a certificate, or with one by somebody else, nothing is taken and nothing lost."""
    stranger = Authority(tmp_path / "other").issue("stranger")
    for own in ({}, {"client_certificate": stranger.certificate, "client_key": stranger.key}):
        answer = send(strict_server, certificate=authority.certificate, **own)
        assert answer.result is ExportResult.RETRYABLE
        assert answer.reason
    assert not strict_server.requests


def test_files_that_do_not_fit_or_have_gone(server: HttpServer, authority: Authority) -> None:
    """A key of another certificate, or a file removed since the start, means later."""
    one, two = authority.issue("one"), authority.issue("two")
    mixed = Identity(one.certificate, two.key)
    files = {
        "certificate": authority.certificate,
        "client_certificate": mixed.certificate,
        "client_key": mixed.key,
    }
    answer = send(server, **files)
    assert answer.result is ExportResult.RETRYABLE
    assert "mismatch" in answer.reason.lower()
    with closing(transport(server, certificate=authority.certificate)) as sender:
        authority.certificate.unlink()
        assert sender.send(b"x").result is ExportResult.RETRYABLE
