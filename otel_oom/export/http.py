"""OTLP/HTTP: one POST of the stored bytes over a connection that is kept.

The standard library's client: the agent's memory budget has no room for another, and the
answers that decide over a message's life must not pass through somebody else's retries.
"""

from __future__ import annotations

import gzip
import http.client
import os
import socket
import ssl
from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote, urlsplit

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from otel_oom import __version__
from otel_oom.export.answer import RETRY_HTTP, Answer, Verdict, bounded
from otel_oom.export.settings import Endpoint
from otel_oom.export.signals import SIGNALS

_CONTENT_TYPE: Final = "application/x-protobuf"
_ANSWER_BYTES: Final = 1 << 20
_OK: Final = range(200, 300)
_GZIP_LEVEL: Final = 5


class HttpTransport:
    """Sends to one endpoint; see :class:`Transport`. One thread at a time may send."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare for ``endpoint``; the first :meth:`send` connects."""
        self._endpoint = endpoint
        parts = urlsplit(endpoint.url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if endpoint.secure else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._proxy = _proxy_for(parts.scheme, parts.netloc.rpartition("@")[2])
        self._headers = {
            "User-Agent": f"otel-oom/{__version__}",
            "Content-Type": _CONTENT_TYPE,
            **({"Content-Encoding": "gzip"} if endpoint.gzip else {}),
            **({"Authorization": _basic(parts.netloc)} if "@" in parts.netloc else {}),
            **dict(endpoint.headers),
        }
        self._connection: http.client.HTTPConnection | None = None
        self._closed = False

    def send(self, body: bytes) -> Answer:
        """POST ``body``; see :meth:`Transport.send`."""
        data = gzip.compress(body, _GZIP_LEVEL) if self._endpoint.gzip else body
        try:
            status, headers, content = self._post(data)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            return Answer(Verdict.LATER, bounded(_said(error, self._endpoint)))
        if status in _OK:
            try:
                return SIGNALS[self._endpoint.signal].taken(content)
            except DecodeError:
                # Backends exist that answer success in words of their own.
                return Answer(Verdict.TAKEN)
        reason = bounded(f"HTTP {status}{_status_message(content)}")
        if status in RETRY_HTTP:
            return Answer(Verdict.LATER, reason, wait_s=retry_after_s(headers.get("Retry-After")))
        return Answer(Verdict.REFUSED, reason)

    def _post(self, data: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        reused = self._connection is not None
        try:
            return self._exchange(data)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # A kept connection that the server closed while it was idle says nothing about
            # the backend: a fresh one does.
            self._drop()
            if not reused:
                raise
            return self._exchange(data)

    def _exchange(self, data: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = self._connection or self._connect()
        connection.request("POST", self._target, body=data, headers=self._headers)
        response = connection.getresponse()
        content = response.read(_ANSWER_BYTES)
        if response.will_close or not response.isclosed():
            self._drop()
        return response.status, response.headers, content

    def _connect(self) -> http.client.HTTPConnection:
        endpoint, timeout = self._endpoint, self._endpoint.timeout_s
        host, port = (self._proxy[0], self._proxy[1]) if self._proxy else (self._host, self._port)
        self._target = self._path
        connection: http.client.HTTPConnection
        if endpoint.secure:
            connection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=tls_context(endpoint)
            )
            if self._proxy:
                connection.set_tunnel(self._host, self._port, headers=self._proxy[2])
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
            if self._proxy:
                self._target = f"http://{self._host}:{self._port}{self._path}"
                self._headers.update(self._proxy[2])
        connection.connect()
        self._connection = connection
        if self._closed:
            self._drop()
            raise ConnectionAbortedError("the transport is closed")
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()

    def close(self) -> None:
        """Give up the connection, also under a :meth:`send` in another thread."""
        self._closed = True
        connection = self._connection
        if connection and connection.sock:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)


def retry_after_s(value: str | None, now: datetime | None = None) -> float | None:
    """The seconds that a ``Retry-After`` header asks for, in either of its forms (RFC 9110)."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """TLS that trusts the endpoint's certificate, or the system's, and shows the client's own."""
    context = ssl.create_default_context(cafile=endpoint.certificate)
    if endpoint.client_certificate:
        context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
    return context


def _status_message(content: bytes) -> str:
    """What the body of an error says: a ``google.rpc.Status``, by the specification."""
    status = Status()
    try:
        status.ParseFromString(content)
    except DecodeError:
        return f": {content.decode('utf-8', 'replace').strip()}" if content else ""
    return f": {status.message}" if status.message else ""


def _said(error: Exception, endpoint: Endpoint) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {endpoint.timeout_s:g} s"
    return str(error) or type(error).__name__


def _basic(netloc: str) -> str:
    return "Basic " + b64encode(unquote(netloc.rpartition("@")[0]).encode()).decode()


def _proxy_for(scheme: str, netloc: str) -> tuple[str, int, dict[str, str]] | None:
    """Host, port and headers of the proxy that the usual variables name for ``netloc``."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # Imported here, for it costs a megabyte that few hosts need.
    from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415

    url = getproxies_environment().get(scheme)
    if not url or proxy_bypass(netloc):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    headers = {"Proxy-Authorization": _basic(parts.netloc)} if "@" in parts.netloc else {}
    return parts.hostname or "", parts.port or 80, headers
