"""Text that others chose, made safe to stand in a sentence."""

from __future__ import annotations

import json
import re
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:@%+,…\-]+")


def quoted(text: str) -> str:
    """A name that its owner chose: as it is when it is plain, else as a string of JSON."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
