"""JSON made of any bytes: mutated JSON is rarely JSON, and seldom has the keys that are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

_MAX_DEPTH = 5
_MAX_ITEMS = 8


def build_json(data: bytes, words: Sequence[str]) -> bytes:
    """Return a JSON object whose keys, and some strings, are among ``words``."""
    source = iter(data)
    return json.dumps(_build_object(source, words, _MAX_DEPTH)).encode()


def _build_object(source: Iterator[int], words: Sequence[str], depth: int) -> dict[str, object]:
    count = next(source, 0) % _MAX_ITEMS
    return {
        words[next(source, 0) % len(words)]: _build_value(source, words, depth - 1)
        for _ in range(count)
    }


def _build_value(source: Iterator[int], words: Sequence[str], depth: int) -> object:
    kind = next(source, 0) & 7
    if kind == 0 and depth > 0:
        return _build_object(source, words, depth)
    if kind == 1 and depth > 0:
        count = next(source, 0) % _MAX_ITEMS
        return [_build_value(source, words, depth - 1) for _ in range(count)]
    if kind == 2:
        return words[next(source, 0) % len(words)]
    if kind == 3:
        return (None, True, 10**30, -1, 1.5, 1e999, "9" * 5000, "1")[next(source, 0) & 7]
    if kind == 4 and depth > 0:
        # An object as text, as annotations have it. Texts within it would double its escapes.
        return json.dumps(_build_object(source, words, 0))
    size = next(source, 0) % 64
    raw = bytes(byte for byte, _ in zip(source, range(size), strict=False))
    # Bytes that are not UTF-8 become halves of characters.
    return list(raw) if kind == 5 else raw.decode("utf-8", "surrogateescape")
