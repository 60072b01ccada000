"""The response of an OTLP/HTTP backend that reports success.

Anyone on the way can respond 200: a captive portal, a login page, a proxy. OTLP specification,
"OTLP/HTTP Response": the body is a response message, with the content type of the request. What
backends send beyond that is in docs/delivery.md.
"""

from __future__ import annotations

import zlib
from email.message import Message
from typing import Final

import msgspec
from msgspec import Struct

from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.export.signals import Signal

_PROTOBUF: Final = frozenset({"application/x-protobuf", "application/protobuf"})
_JSON: Final = "application/json"
_MAX_CONTENT_BYTES: Final = 1 << 16
_GZIP_WINDOW_BITS: Final = 16 + zlib.MAX_WBITS


class _PartialSuccess(Struct, rename="camel"):
    """The JSON encoding of a partial success; an int64 is a string there."""

    rejected_log_records: int | str = 0
    rejected_spans: int | str = 0
    rejected_data_points: int | str = 0
    error_message: str = ""


class _Response(Struct, rename="camel"):
    """The JSON encoding of a response; other fields are a backend's own."""

    partial_success: _PartialSuccess | None = None


class _ExactResponse(_Response, forbid_unknown_fields=True):
    """The JSON encoding of a response without other fields."""


def parse_success(signal: Signal, status: int, headers: Message, content: bytes) -> ExportResponse:
    """Return what a status 2xx means: accepted, or retryable if it is not of OTLP.

    Accepted are: no body; the content type of protobuf or JSON, unless the body is markup; and a
    body that is a response message, whatever its type.
    """
    if not content:
        return ExportResponse(ExportResult.ACCEPTED)
    media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    body = _decode(content, headers.get("Content-Encoding", ""))
    is_markup = body.lstrip().startswith(b"<")
    response = None if is_markup else _parse_typed(signal, media_type, body)
    return response or ExportResponse(
        ExportResult.RETRYABLE,
        f"HTTP {status} is not a response of OTLP (content type {media_type[:100] or 'missing'}); "
        f"is there a proxy or a login page in between? {body.decode('utf-8', 'replace')}",
    )


def _parse_typed(signal: Signal, media_type: str, body: bytes) -> ExportResponse | None:
    if media_type in _PROTOBUF:
        # Some backends send a body of their own with this type.
        return signal.parse_success(body) or ExportResponse(ExportResult.ACCEPTED)
    if media_type == _JSON:
        return _parse_json(signal, body, _Response) or ExportResponse(ExportResult.ACCEPTED)
    return signal.parse_success(body, exact=True) or _parse_json(signal, body, _ExactResponse)


def _parse_json(signal: Signal, body: bytes, type_: type[_Response]) -> ExportResponse | None:
    try:
        partial = msgspec.json.decode(body, type=type_).partial_success or _PartialSuccess()
        rejected = int(getattr(partial, signal.rejected_field))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return ExportResponse(ExportResult.ACCEPTED, partial.error_message, rejected=rejected)


def _decode(content: bytes, encoding: str) -> bytes:
    """Decompress a body that came with gzip although the request excludes it, up to a limit."""
    if encoding.strip().lower() not in {"gzip", "x-gzip"}:
        return content
    try:
        return zlib.decompressobj(_GZIP_WINDOW_BITS).decompress(content, _MAX_CONTENT_BYTES)
    except zlib.error:
        return content
