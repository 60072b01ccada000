"""What of containers the user asks to be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LABELS: Final = "OTEL_OOM_CONTAINER_LABELS"


def labels(environ: Mapping[str, str]) -> frozenset[str]:
    """The keys of the labels to keep, separated by commas in ``environ``; none by default."""
    keys = (key.strip() for key in environ.get(LABELS, "").split(","))
    return frozenset(key for key in keys if key)
