"""JSON that others wrote: bounded, of any shape, and perhaps malformed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

MAX_BYTES: Final = 4 << 20
_MAX_TEXT_CHARS: Final = 1024
_MAX_TEXTS: Final = 64


def read_json(path: Path) -> Any:  # noqa: ANN401  JSON
    """Read a file; ``None`` if it is absent, too large, no regular file or no JSON.

    Raises PermissionError if it exists and is not readable.
    """
    try:
        # Opening a FIFO must not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except PermissionError:
        raise
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return None
        return parse_json(os.read(descriptor, MAX_BYTES))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def parse_json(content: object) -> Any:  # noqa: ANN401  JSON
    """Parse text or bytes; ``None`` if ``content`` is neither, or no JSON."""
    try:
        return json.loads(content) if isinstance(content, str | bytes) else None
    except (ValueError, RecursionError):
        return None


def as_object(value: object) -> Mapping[str, Any]:
    """Return ``value`` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: object) -> str | None:
    """Return ``value`` if it is a string and not empty, bounded and encodable in UTF-8."""
    if not isinstance(value, str) or not value:
        return None
    # A JSON escape can stand for half a character.
    return value[:_MAX_TEXT_CHARS].encode("utf-8", "backslashreplace").decode()


def select_texts(value: object, keys: frozenset[str]) -> dict[str, str]:
    """Return the entries of the object ``value`` that have one of ``keys`` and a string."""
    texts = {key: as_text(item) for key, item in as_object(value).items() if key in keys}
    selected = [(key, text) for key, text in texts.items() if text is not None]
    return dict(selected[:_MAX_TEXTS])
