"""Container labels to record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LABELS: Final = "OTEL_OOM_CONTAINER_LABELS"


def read_container_labels(environ: Mapping[str, str]) -> frozenset[str]:
    """Return the keys of the labels to record, separated by commas; none by default."""
    keys = (key.strip() for key in environ.get(LABELS, "").split(","))
    return frozenset(key for key in keys if key)
