"""Attributes of the victim's mappings."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from otel_oom.enrich.redact import redact
from otel_oom.model.mappings import VictimMapping, VictimMappings
from otel_oom.model.text import quote_text
from otel_oom.otlp import semconv
from otel_oom.otlp.semconv import Value

_MAX_NAME_CHARS: Final = 128
"""Escapes make a name of 63 bytes longer: all lines together stay below 6 KiB."""


def mapping_attributes(mappings: VictimMappings | None) -> dict[str, Value | None]:
    """Return the largest mappings, each in logfmt, and their number."""
    if mappings is None:
        return {}
    return {
        semconv.VICTIM_MAPPINGS_LARGEST: [_format_mapping(each) for each in mappings.largest],
        semconv.VICTIM_MAPPINGS_COUNT: mappings.count,
        semconv.VICTIM_MAPPINGS_SKIPPED: mappings.skipped or None,
    }


def _format_mapping(mapping: VictimMapping) -> str:
    line = f"kind={mapping.kind} size={mapping.size} count={mapping.count}"
    return f"{line} name={_quote_name(mapping.name)}" if mapping.name else line


# Most victims have the same libraries.
@lru_cache(maxsize=256)
def _quote_name(name: str) -> str:
    return quote_text(redact((name[:_MAX_NAME_CHARS],))[0])
