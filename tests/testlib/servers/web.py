"""HTTP requests to servers on this machine, with JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPHandler, OpenerDirector, ProxyHandler, Request, build_opener

Json = dict[str, Any]
"""A JSON object, as `json` parses it."""

_OPENER: OpenerDirector = build_opener(HTTPHandler, ProxyHandler({}))  # loopback needs no proxy


@dataclass(frozen=True)
class HttpReply:
    """An HTTP response of any status."""

    status: int
    body: bytes

    def json(self) -> Json:
        """Return the body as a JSON object.

        Raises:
            ValueError: the status is not 200, or the body is not a JSON object.
        """
        parsed: object = json.loads(self.body) if self.status == 200 else None
        if not isinstance(parsed, dict):
            raise ValueError(f"HTTP {self.status}: {self.body[:500]!r}")  # noqa: TRY004  a server's fault, not the caller's
        return parsed


def http_get(url: str, params: dict[str, str] | None = None, *, timeout: float = 10.0) -> HttpReply:
    """GET a URL. Raises OSError if no response comes within `timeout` seconds."""
    return _send(Request(f"{url}?{urlencode(params)}" if params else url), timeout)  # noqa: S310  callers pass loopback URLs


def http_post(url: str, body: Json | bytes, *, timeout: float = 10.0) -> HttpReply:
    """POST JSON, or Protobuf as bytes. Raises OSError without a response in `timeout` seconds."""
    kind = "application/x-protobuf" if isinstance(body, bytes) else "application/json"
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return _send(Request(url, content, {"Content-Type": kind}), timeout)  # noqa: S310  as above


def is_ok(url: str) -> bool:
    """Return True if a GET has a 2xx response within a second."""
    try:
        return http_get(url, timeout=1.0).status // 100 == 2
    except OSError:
        return False


def _send(request: Request, timeout: float) -> HttpReply:
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            return HttpReply(response.status, response.read())
    except HTTPError as error:
        with error:
            return HttpReply(error.code, error.read())
    except HTTPException as error:  # a server that starts or ends may cut its answer short
        raise OSError(str(error)) from error
