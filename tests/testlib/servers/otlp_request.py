"""OTLP requests decoded from what a server receives or writes to a file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from email.message import Message as Headers
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message

from otel_oom.export.signals import SIGNALS


def decode_http(path: str, headers: Headers, body: bytes) -> Message | None:
    """Decode the body of an HTTP request; ``None`` if it has no whole request of OTLP."""
    signal = next((each for each in SIGNALS.values() if each.path == path), None)
    try:
        content = gzip.decompress(body) if headers.get("Content-Encoding") == "gzip" else body
        if headers.get("Content-Type") == "application/json":
            return decode_json(json.loads(content))
        return signal.request.FromString(content) if signal else None
    except (OSError, EOFError, ValueError, DecodeError):
        return None


def decode_grpc(service: str, body: bytes) -> Message | None:
    """Decode the message of a call of ``Export``; ``None`` if it is no request of OTLP."""
    signal = next(each for each in SIGNALS.values() if each.method == f"/{service}/Export")
    try:
        return signal.request.FromString(body)
    except DecodeError:
        return None


def decode_json(content: Mapping[str, Any]) -> Message | None:
    """Decode OTLP/JSON; its ids become other bytes, since they are hexadecimal there."""
    for signal in SIGNALS.values():
        field = signal.request.DESCRIPTOR.fields[0].json_name
        if field in content:
            return ParseDict(dict(content), signal.request(), ignore_unknown_fields=True)
    return None
