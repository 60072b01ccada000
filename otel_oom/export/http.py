"""OTLP/HTTP: POST stored bytes over a persistent connection.

The client is the standard library's: another does not fit in the agent's memory budget, and its
own retries would hide the responses that decide about a message.
"""

from __future__ import annotations

import gzip
import threading
from contextlib import suppress
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from otel_oom import __version__
from otel_oom.config.otlp import Endpoint
from otel_oom.config.redaction import header_secrets
from otel_oom.export.deadline_socket import DeadlineConnection
from otel_oom.export.http_client import http, tls_context
from otel_oom.export.http_response import parse_response
from otel_oom.export.proxy import proxy_for
from otel_oom.export.result import ExportResponse, ExportResult, sanitize_reason
from otel_oom.export.signals import SIGNALS

_CONTENT_TYPE: Final = "application/x-protobuf"
_MAX_RESPONSE_BYTES: Final = 1 << 16
"""Longest body that is parsed: protobuf can take 40 times its bytes in memory."""
_PORTS: Final = {"http": 80, "https": 443}
_GZIP_LEVEL: Final = 5


class HttpTransport:
    """Transport of one endpoint; see :class:`Transport`. One thread at a time may send."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._url = urlsplit(endpoint.url)
        self._target = ""
        self._headers: dict[str, str | bytes] = {}
        self._proxy_headers: dict[str, str] = {}
        self._http: http.client.HTTPConnection | None = None
        self._connection = DeadlineConnection()
        self._sending = threading.Lock()
        self._closed = False

    def send(self, body: bytes) -> ExportResponse:
        """POST ``body``; see :meth:`Transport.send`."""
        with self._sending:
            response = self._send(body)
        if self._closed:
            self._disconnect()
        secrets = (*self._endpoint.secrets, *header_secrets(self._proxy_headers.values()))
        return replace(response, reason=sanitize_reason(response.reason, secrets))

    def _send(self, body: bytes) -> ExportResponse:
        data = gzip.compress(body, _GZIP_LEVEL) if self._endpoint.gzip else body
        self._connection.start(self._endpoint.timeout_s)
        try:
            status, headers, content = self._post(data)
        except (OSError, http.client.HTTPException) as error:
            self._disconnect()
            return ExportResponse(ExportResult.RETRYABLE, self._describe_error(error))
        return parse_response(SIGNALS[self._endpoint.signal], status, headers, content)

    def _post(self, data: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        reused = self._http is not None
        try:
            return self._exchange(data)
        except OSError as error:
            # The server may have closed an idle connection. That says nothing about the backend:
            # try a new one.
            self._disconnect()
            if not reused or self._closed or isinstance(error, TimeoutError):
                raise
            return self._exchange(data)

    def _exchange(self, data: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        client = self._http or self._connect()
        with suppress(BrokenPipeError, ConnectionResetError):
            # A server may respond and close before it has read all, as with 413: then the
            # response counts. Without a response, reading it fails likewise.
            client.request("POST", self._target, body=data, headers=self._headers)
        response = client.getresponse()
        if self._connection.at_eof:
            # The client accepts truncated headers as complete.
            raise http.client.IncompleteRead(b"")
        content = response.read(_MAX_RESPONSE_BYTES)
        if response.length and len(content) < _MAX_RESPONSE_BYTES:
            raise http.client.IncompleteRead(content, response.length)
        if response.will_close or not response.isclosed():
            self._disconnect()
        return response.status, response.headers, content

    def _connect(self) -> http.client.HTTPConnection:
        endpoint, url = self._endpoint, self._url
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        proxy = proxy_for(url.scheme, url.netloc)
        self._proxy_headers = proxy.headers if proxy else {}
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._headers = _request_headers(endpoint)
        client = http.client.HTTPConnection(*((proxy.host, proxy.port) if proxy else (host, port)))
        # For the Host header.
        client.default_port = _PORTS[url.scheme]
        if proxy and endpoint.secure:
            client.set_tunnel(host, port, headers=proxy.headers)
        elif proxy:
            self._target = f"{url.scheme}://{url.netloc}{self._target}"
            self._headers.update(proxy.headers)
        client._create_connection = self._connection.connect  # type: ignore[attr-defined]  # noqa: SLF001  the client's own hook
        self._http = client
        client.connect()
        if endpoint.secure:
            # Not HTTPSConnection: it needs a socket of the system, and loads OpenSSL at its import.
            client.sock = self._connection.start_tls(client.sock, tls_context(endpoint), host)
        return client

    def _disconnect(self) -> None:
        client, self._http = self._http, None
        if client:
            client.close()
        self._connection.discard()

    def _describe_error(self, error: Exception) -> str:
        if self._closed:
            return "closed while sending"
        if isinstance(error, TimeoutError):
            return f"no response within {self._endpoint.timeout_s:g} s"
        return (str(error) or type(error).__name__) + _tls_hint(error)

    def close(self) -> None:
        """Close the connection, also during a :meth:`send` in another thread."""
        self._closed = True
        self._connection.close()
        if self._sending.acquire(blocking=False):
            # No thread is sending; else the sender, whose waits have just ended, disconnects.
            self._disconnect()
            self._sending.release()


def _tls_hint(error: Exception) -> str:
    """Return advice about a failed handshake, by names: OpenSSL may not be loaded."""
    if type(error).__name__ == "SSLCertVerificationError":
        return "; set OTEL_EXPORTER_OTLP_CERTIFICATE to a trusted CA"
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":
        return "; the server does not speak TLS: use http:// instead of https://"
    return ""


def _request_headers(endpoint: Endpoint) -> dict[str, str | bytes]:
    """Return the request's headers; the user's win, except for those of the body."""
    own = {"content-type": _CONTENT_TYPE} | ({"content-encoding": "gzip"} if endpoint.gzip else {})
    # The percent-encoded bytes were UTF-8.
    configured = {name.lower(): value.encode() for name, value in endpoint.headers}
    return {"user-agent": f"otel-oom/{__version__}", **configured, **own}
