"""A persistent HTTP connection, with one deadline for each request.

The client is the standard library's: another does not fit in the agent's memory budget, and its
own retries would hide the responses that decide about a message.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from otel_oom.config.endpoint import Endpoint
from otel_oom.export.deadline_socket import DeadlineConnection
from otel_oom.export.http_client import http, tls_context
from otel_oom.export.proxy import proxy_for

MAX_RESPONSE_BYTES: Final = 1 << 16
"""Longest body that is parsed: protobuf can take 40 times its bytes in memory."""
_PORTS: Final = {"http": 80, "https": 443}

Response = tuple[int, http.client.HTTPMessage, bytes]
"""Status, headers and body."""


class HttpConnection:
    """A connection to the host of an endpoint; one thread at a time may post."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._url = urlsplit(endpoint.url)
        self._prefix = ""
        self._proxy_headers: dict[str, str] = {}
        self._http: http.client.HTTPConnection | None = None
        self._connection = DeadlineConnection()
        self._posting = threading.Lock()
        self._closed = False

    @property
    def proxy_headers(self) -> Mapping[str, str]:
        """The headers for a proxy, whose values are secret."""
        return self._proxy_headers

    def start(self) -> None:
        """Begin the time of the endpoint's timeout, which limits all requests from now on."""
        self._connection.start(self._endpoint.timeout_s)

    def post(self, target: str, headers: Mapping[str, str | bytes], data: bytes) -> Response:
        """POST ``data``. Raises OSError or HTTPException without a complete response."""
        with self._posting:
            try:
                return self._post(target, headers, data)
            except (OSError, http.client.HTTPException):
                self._disconnect()
                raise
            finally:
                if self._closed:
                    self._disconnect()

    def describe_error(self, error: Exception) -> str:
        """Return the cause of an error of :meth:`post`."""
        if self._closed:
            return "closed while sending"
        if isinstance(error, TimeoutError):
            return f"no response within {self._endpoint.timeout_s:g} s"
        return str(error) or type(error).__name__

    def close(self) -> None:
        """Close the connection, also during a :meth:`post` in another thread."""
        self._closed = True
        self._connection.close()
        if self._posting.acquire(blocking=False):
            # No thread is posting; else that one, whose waits have just ended, disconnects.
            self._disconnect()
            self._posting.release()

    def _post(self, target: str, headers: Mapping[str, str | bytes], data: bytes) -> Response:
        reused = self._http is not None
        try:
            return self._exchange(target, headers, data)
        except OSError as error:
            # The server may have closed an idle connection. That says nothing about the backend:
            # try a new one.
            self._disconnect()
            if not reused or self._closed or isinstance(error, TimeoutError):
                raise
            return self._exchange(target, headers, data)

    def _exchange(self, target: str, headers: Mapping[str, str | bytes], data: bytes) -> Response:
        client = self._http or self._connect()
        own = self._proxy_headers if self._prefix else {}
        with suppress(BrokenPipeError, ConnectionResetError):
            # A server may respond and close before it has read all, as with 413: then the
            # response counts. Without a response, reading it fails likewise.
            client.request("POST", self._prefix + target, body=data, headers={**headers, **own})
        response = client.getresponse()
        if self._connection.at_eof:
            # The client accepts truncated headers as complete.
            raise http.client.IncompleteRead(b"")
        content = response.read(MAX_RESPONSE_BYTES)
        if response.length and len(content) < MAX_RESPONSE_BYTES:
            raise http.client.IncompleteRead(content, response.length)
        if response.will_close or not response.isclosed():
            self._disconnect()
        return response.status, response.headers, content

    def _connect(self) -> http.client.HTTPConnection:
        endpoint, url = self._endpoint, self._url
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        proxy = proxy_for(url.scheme, url.netloc)
        self._proxy_headers = proxy.headers if proxy else {}
        self._prefix = ""
        client = http.client.HTTPConnection(*((proxy.host, proxy.port) if proxy else (host, port)))
        # For the Host header.
        client.default_port = _PORTS[url.scheme]
        if proxy and endpoint.secure:
            client.set_tunnel(host, port, headers=proxy.headers)
        elif proxy:
            self._prefix = f"{url.scheme}://{url.netloc}"
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
