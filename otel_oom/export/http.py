"""OTLP/HTTP: POST stored bytes over a persistent connection."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from otel_oom.config.endpoint import JSON, Endpoint
from otel_oom.config.redaction import header_secrets
from otel_oom.export.http_client import http
from otel_oom.export.http_connection import HttpConnection
from otel_oom.export.http_response import parse_response
from otel_oom.export.result import ExportResponse, ExportResult, sanitize_reason
from otel_oom.export.signals import SIGNALS
from otel_oom.export.user_agent import USER_AGENT

_PROTOBUF: Final = "application/x-protobuf"
_GZIP_LEVEL: Final = 5
_GZIP_WINDOW_BITS: Final = 31
"""For zlib, which the agent has loaded already; ``gzip`` takes another 60 kB."""


class HttpTransport:
    """Transport of one endpoint; see :class:`Transport`. One thread at a time may send."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        url = urlsplit(endpoint.url)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._headers = _request_headers(endpoint)
        self._connection = HttpConnection(endpoint)

    def send(self, body: bytes) -> ExportResponse:
        """POST ``body``; see :meth:`Transport.send`."""
        response = self._send(body)
        proxy_headers = self._connection.proxy_headers
        secrets = (*self._endpoint.secrets, *header_secrets(proxy_headers.values()))
        return replace(response, reason=sanitize_reason(response.reason, secrets))

    def _send(self, body: bytes) -> ExportResponse:
        data = self._to_json(body) if self._endpoint.protocol == JSON else body
        if self._endpoint.gzip:
            data = zlib.compress(data, _GZIP_LEVEL, _GZIP_WINDOW_BITS)
        self._connection.start()
        try:
            status, headers, content = self._connection.post(self._target, self._headers, data)
        except (OSError, http.client.HTTPException) as error:
            reason = self._connection.describe_error(error) + _tls_hint(error)
            return ExportResponse(ExportResult.RETRYABLE, reason)
        return parse_response(SIGNALS[self._endpoint.signal], status, headers, content)

    def _to_json(self, body: bytes) -> bytes:
        from otel_oom.otlp.json import to_json_line  # noqa: PLC0415  1 MB that protobuf spares

        request = SIGNALS[self._endpoint.signal].request()
        request.ParseFromString(body)
        return to_json_line(request).encode()

    def close(self) -> None:
        """Close the connection, also during a :meth:`send` in another thread."""
        self._connection.close()


def _tls_hint(error: Exception) -> str:
    """Return advice about a failed handshake, by names: OpenSSL may not be loaded."""
    if type(error).__name__ == "SSLCertVerificationError":
        return "; set OTEL_EXPORTER_OTLP_CERTIFICATE to a trusted CA"
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":
        return "; the server does not speak TLS: use http:// instead of https://"
    return ""


def _request_headers(endpoint: Endpoint) -> dict[str, str | bytes]:
    """Return the request's headers; the user's win, except for those of the body."""
    content_type = "application/json" if endpoint.protocol == JSON else _PROTOBUF
    own = {"content-type": content_type} | ({"content-encoding": "gzip"} if endpoint.gzip else {})
    # The percent-encoded bytes were UTF-8.
    configured = {name.lower(): value.encode() for name, value in endpoint.headers}
    return {"user-agent": USER_AGENT, **configured, **own}
