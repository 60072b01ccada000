"""The response of an OTLP/HTTP backend: its status, headers and body."""

from __future__ import annotations

from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Final

from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from otel_oom.config.redaction import redact_url
from otel_oom.export.http_success import parse_success
from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.export.signals import Signal

_INFORMATIONAL: Final = range(100, 200)
_OK: Final = range(200, 300)
_REDIRECT: Final = range(300, 400)
_RETRYABLE: Final = frozenset({*_INFORMATIONAL, 429, 502, 503, 504, 511})
"""Those of the specification, and two kinds that no backend means as the result: 1xx precedes it,
and 511 comes from a captive portal (RFC 6585, section 6)."""
_TOO_LARGE: Final = 413
_MISCONFIGURED: Final = frozenset({*_REDIRECT, 401, 404, 405, 407, 421})
"""Status codes that no message causes. Not 403: firewalls send it because of contents.

Redirects are not followed: the specification has none, and a POST would become a GET or send the
credentials elsewhere. Python's official exporter counts a redirect as success.
"""


def parse_response(signal: Signal, status: int, headers: Message, content: bytes) -> ExportResponse:
    """Return the result that the status, headers and body of a response mean.

    Its reason is still the backend's text, not sanitized.
    """
    if status in _OK:
        return parse_success(signal, status, headers, content)
    if status in _REDIRECT:
        reason = _describe_redirect(status, headers.get("Location", ""))
    else:
        reason = f"HTTP {status}{_parse_error_message(content)}"
    if status in _RETRYABLE:
        wait_s = parse_retry_after_s(headers.get("Retry-After"), headers.get("Date"))
        return ExportResponse(ExportResult.RETRYABLE, reason, wait_s, status_code=str(status))
    result = ExportResult.REJECTED
    if status == _TOO_LARGE:
        result = ExportResult.TOO_LARGE
    elif status in _MISCONFIGURED:
        result = ExportResult.MISCONFIGURED
    return ExportResponse(result, reason, status_code=str(status))


def parse_retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Parse either form of a ``Retry-After`` header (RFC 9110); return seconds.

    ``date`` is the ``Date`` header of the same response. Without it the host's own clock is used,
    which may differ from the server's.
    """
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    end = _parse_http_date(value)
    if end is None:
        return None
    start = _parse_http_date(date or "") or datetime.now(UTC)
    return max(0.0, (end - start).total_seconds())


def _parse_http_date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _describe_redirect(status: int, location: str) -> str:
    target = redact_url(location)
    where = f" to {target}" if target else ""
    return (
        f"HTTP {status}: redirected{where}, which is not followed; "
        "set OTEL_EXPORTER_OTLP_ENDPOINT to the final address"
    )


def _parse_error_message(content: bytes) -> str:
    """Return the message of an error: of a ``google.rpc.Status``, as specified."""
    status = Status()
    try:
        status.ParseFromString(content)
    except DecodeError:
        return f": {content.decode('utf-8', 'replace').strip()}" if content else ""
    return f": {status.message}" if status.message else ""
