"""Events and snapshots as the JSON of their columns."""

from __future__ import annotations

import json
from typing import Final, TypeVar, get_args

import msgspec

from otel_oom.model.events import StoredEvent

_T = TypeVar("_T")

_TYPES: Final[dict[str, type[StoredEvent]]] = {type_.kind: type_ for type_ in get_args(StoredEvent)}


def encode(value: msgspec.Struct) -> str:
    """Encode a value as JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        # UTF-8 has no lone surrogates: one in a hostile name must not cost the event.
        text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def decode(type_: type[_T], text: str | bytes) -> _T:
    """Decode JSON strictly by type; fields unknown to this version are ignored.

    Raises:
        ValueError, RecursionError: it is damaged, or of another version.
    """
    return msgspec.json.decode(text, type=type_)


def decode_event(kind: str, text: str | bytes) -> StoredEvent:
    """Decode an event of ``kind``; raises as :func:`decode`."""
    type_ = _TYPES.get(kind)
    if type_ is None:
        raise ValueError(f"unknown kind {kind!r}")
    return decode(type_, text)
