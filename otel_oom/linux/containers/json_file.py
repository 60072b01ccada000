"""JSON that others wrote: bounded, of any shape, and perhaps malformed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from otel_oom.linux.untrusted_file import open_root, open_untrusted

MAX_BYTES: Final = 256 << 10
"""The worst JSON of this size becomes 9 MB of objects."""
_MAX_TEXT_CHARS: Final = 1024
_MAX_TEXTS: Final = 64


def read_json(root: Path, path: Path, owner: int | None = None) -> Any:  # noqa: ANN401  JSON
    """Read the file at ``path`` below ``root``, by :func:`.open_untrusted`.

    ``None`` if it is absent, too large, no regular file of ``owner``, or no JSON.
    Raises PermissionError if it exists and is not readable.
    """
    try:
        with open_root(root) as root_fd:
            fd = open_untrusted(root_fd, path, max_bytes=MAX_BYTES, owner=owner)
        try:
            return parse_json(os.read(fd, MAX_BYTES))
        finally:
            os.close(fd)
    except PermissionError:
        raise
    except OSError:
        return None


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
