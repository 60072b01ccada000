"""OTLP/HTTP: one POST of the stored bytes over a connection that is kept.

The standard library's client: the agent's memory budget has no room for another, and the
answers that decide over a message's life must not pass through somebody else's retries.
"""

from __future__ import annotations

import gzip
import threading
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from otel_oom import __version__
from otel_oom.config.endpoint import Endpoint
from otel_oom.export.deadline_socket import DeadlineConnection
from otel_oom.export.http_client import allow_tls, http
from otel_oom.export.proxy import proxy_for
from otel_oom.export.result import (
    MISCONFIGURED_HTTP_STATUS,
    RETRY_HTTP,
    TOO_LARGE_HTTP,
    ExportResponse,
    ExportResult,
    bounded,
)
from otel_oom.export.signals import SIGNALS

if TYPE_CHECKING:
    from ssl import SSLContext

_CONTENT_TYPE: Final = "application/x-protobuf"
_ANSWER_BYTES: Final = 1 << 20
_OK: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_GZIP_LEVEL: Final = 5


class HttpTransport:
    """Sends to one endpoint; see :class:`Transport`. One thread at a time may send."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Prepare for ``endpoint``; the first :meth:`send` connects."""
        self._endpoint = endpoint
        self._url = urlsplit(endpoint.url)
        self._target = ""
        self._headers: dict[str, str | bytes] = {}
        self._connection: http.client.HTTPConnection | None = None
        self._line = DeadlineConnection()
        self._sending = threading.Lock()
        self._closed = False

    def send(self, body: bytes) -> ExportResponse:
        """POST ``body``; see :meth:`Transport.send`."""
        with self._sending:
            answer = self._send(body)
        if self._closed:
            self._drop()
        return answer

    def _send(self, body: bytes) -> ExportResponse:
        data = gzip.compress(body, _GZIP_LEVEL) if self._endpoint.gzip else body
        self._line.begin(self._endpoint.timeout_s)
        try:
            status, headers, content = self._post(data)
        except (OSError, http.client.HTTPException) as error:
            self._drop()
            return ExportResponse(ExportResult.RETRYABLE, bounded(self._said(error)))
        if status in _OK:
            return SIGNALS[self._endpoint.signal].taken(content)
        if status in _REDIRECT:
            return ExportResponse(
                ExportResult.MISCONFIGURED,
                _moved(status, headers.get("Location", "")),
                code=str(status),
            )
        reason = bounded(f"HTTP {status}{_status_message(content)}")
        if status in RETRY_HTTP:
            asked_s = retry_after_s(headers.get("Retry-After"), headers.get("Date"))
            return ExportResponse(ExportResult.RETRYABLE, reason, wait_s=asked_s)
        if status == TOO_LARGE_HTTP:
            return ExportResponse(ExportResult.TOO_LARGE, reason, code=str(status))
        verdict = (
            ExportResult.MISCONFIGURED
            if status in MISCONFIGURED_HTTP_STATUS
            else ExportResult.REJECTED
        )
        return ExportResponse(verdict, reason, code=str(status))

    def _post(self, data: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        reused = self._connection is not None
        try:
            return self._exchange(data)
        except OSError as error:
            # A kept connection that the server closed while it was idle says nothing about
            # the backend: a fresh one does.
            self._drop()
            if not reused or self._closed or isinstance(error, TimeoutError):
                raise
            return self._exchange(data)

    def _exchange(self, data: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = self._connection or self._connect()
        with suppress(BrokenPipeError, ConnectionResetError):
            # A server may answer and hang up before it has read all, as with 413: then the
            # answer counts. If there is none, reading it fails likewise.
            connection.request("POST", self._target, body=data, headers=self._headers)
        response = connection.getresponse()
        if self._line.at_end:
            # The client takes a head without its end for a whole one.
            raise http.client.IncompleteRead(b"")
        content = response.read(_ANSWER_BYTES)
        if response.length and len(content) < _ANSWER_BYTES:
            raise http.client.IncompleteRead(content, response.length)
        if response.will_close or not response.isclosed():
            self._drop()
        return response.status, response.headers, content

    def _connect(self) -> http.client.HTTPConnection:
        endpoint, url, timeout = self._endpoint, self._url, self._endpoint.timeout_s
        host, port = url.hostname or "", url.port or (443 if endpoint.secure else 80)
        proxy = proxy_for(url.scheme, url.netloc)
        near = (proxy.host, proxy.port) if proxy else (host, port)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._headers = _headers(endpoint)
        connection: http.client.HTTPConnection
        if endpoint.secure:
            allow_tls()
            context = tls_context(endpoint)
            connection = http.client.HTTPSConnection(*near, timeout=timeout, context=context)
            if proxy:
                connection.set_tunnel(host, port, headers=proxy.headers)
        else:
            connection = http.client.HTTPConnection(*near, timeout=timeout)
            if proxy:
                self._target = f"{url.scheme}://{url.netloc}{self._target}"
                self._headers.update(proxy.headers)
        # The client's own seam: what it does with the socket next may take long as well.
        connection._create_connection = self._line.dial  # type: ignore[attr-defined]  # noqa: SLF001
        self._connection = connection
        connection.connect()
        connection.sock = self._line.bound(connection.sock)
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()
        self._line.drop()

    def _said(self, error: Exception) -> str:
        if self._closed:
            return "closed while it was sending"
        if isinstance(error, TimeoutError):
            return f"no answer within {self._endpoint.timeout_s:g} s"
        return (str(error) or type(error).__name__) + _tls_hint(error)

    def close(self) -> None:
        """Give up the connection, also under a :meth:`send` in another thread."""
        self._closed = True
        self._line.close()
        if self._sending.acquire(blocking=False):
            # Nobody is sending; else the sender, whose waits have just ended, tidies up.
            self._drop()
            self._sending.release()


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """The seconds that a ``Retry-After`` header asks for, in either of its forms (RFC 9110).

    ``date`` is the ``Date`` header of the same answer. Where it is missing, the host's own clock
    has to do, which may go wrong by as much as the two differ.
    """
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    at = _moment(value)
    if at is None:
        return None
    return max(0.0, (at - (_moment(date or "") or datetime.now(UTC))).total_seconds())


def _moment(value: str) -> datetime | None:
    """An HTTP date, if it is one."""
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _moved(status: int, location: str) -> str:
    """What a redirect says, and what is to be done: without what may be secret in its target."""
    try:
        parts = urlsplit(location)
        target = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        target = ""
    where = f" to {target}" if target else ""
    return bounded(
        f"HTTP {status}: redirected{where}, which is not followed; "
        "OTEL_EXPORTER_OTLP_ENDPOINT must name the place itself"
    )


def _tls_hint(error: Exception) -> str:
    """What to do about a failed handshake. Told by names: OpenSSL may not have been loaded."""
    if type(error).__name__ == "SSLCertVerificationError":
        return "; whom to trust is said by OTEL_EXPORTER_OTLP_CERTIFICATE"
    if getattr(error, "reason", None) == "WRONG_VERSION_NUMBER":
        return "; it does not seem to speak TLS: is it http:// rather than https://?"
    return ""


def tls_context(endpoint: Endpoint) -> SSLContext:
    """TLS that trusts the endpoint's certificate, or the system's, and shows the client's own."""
    import ssl  # noqa: PLC0415  see client.py

    context = ssl.create_default_context(cafile=endpoint.certificate)
    if endpoint.client_certificate:
        context.load_cert_chain(endpoint.client_certificate, endpoint.client_key)
    return context


def _headers(endpoint: Endpoint) -> dict[str, str | bytes]:
    """The request's headers: what describes the body is ours to say, the rest the user's."""
    own = {"content-type": _CONTENT_TYPE} | ({"content-encoding": "gzip"} if endpoint.gzip else {})
    # UTF-8, for it is what the percent-encoded bytes were.
    given = {name.lower(): value.encode() for name, value in endpoint.headers}
    return {"user-agent": f"otel-oom/{__version__}", **given, **own}


def _status_message(content: bytes) -> str:
    """What the body of an error says: a ``google.rpc.Status``, by the specification."""
    status = Status()
    try:
        status.ParseFromString(content)
    except DecodeError:
        return f": {content.decode('utf-8', 'replace').strip()}" if content else ""
    return f": {status.message}" if status.message else ""
