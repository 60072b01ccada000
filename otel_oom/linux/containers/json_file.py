"""JSON of others: a file is had by one bounded read of a regular file, and may hold anything."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

MOST_BYTES: Final = 4 << 20


def read(path: Path) -> Any:  # noqa: ANN401  JSON
    """What the file says; ``None`` where it is absent, too large, no regular file or no JSON.

    Raises:
        PermissionError: it is there and may not be read.
    """
    try:
        # A FIFO in its place must not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except PermissionError:
        raise
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            return None
        return parse(os.read(descriptor, MOST_BYTES))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def parse(content: str | bytes) -> Any:  # noqa: ANN401  JSON
    """What ``content`` says; ``None`` where it is no JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def mapping(value: object) -> Mapping[str, Any]:
    """``value`` if it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}
