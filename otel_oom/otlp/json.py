"""OTLP requests as OTLP/JSON, one per line, as the Collector's file exporter writes them."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def to_json_line(request: Message) -> str:
    """Format a request as one line of JSON, without the newline.

    OTLP differs from Protobuf's own JSON in two ways: ids are hexadecimal and enumerations are
    numbers (OTLP specification, "JSON Protobuf Encoding").
    """
    value = MessageToDict(request, use_integers_for_enums=True)
    return json.dumps(_hexadecimal_ids(value), separators=(",", ":"))


def _hexadecimal_ids(value: Any) -> Any:  # noqa: ANN401  JSON
    if isinstance(value, dict):
        return {
            name: b64decode(item).hex() if name in _IDS else _hexadecimal_ids(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_hexadecimal_ids(item) for item in value]
    return value
