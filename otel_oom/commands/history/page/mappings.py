"""The mappings of the victim, the largest first."""

from __future__ import annotations

from typing import Final

from otel_oom.commands.elements import Head, Paragraph, Section, Table
from otel_oom.commands.history.page.tasks import parse_logfmt
from otel_oom.model.units import format_bytes
from otel_oom.otlp import semconv
from otel_oom.otlp.decode import DecodedEvent

_HEADS: Final = (
    Head("KIND"),
    *(Head(name, right=True) for name in ("SIZE", "MAPPINGS")),
    Head("NAME", flexible=True),
)
_SIZE: Final = [head.name for head in _HEADS].index("SIZE")


def describe_mappings(event: DecodedEvent) -> Section | None:
    """Return the section; ``None`` without a list of mappings."""
    attributes = event.attributes
    mappings = parse_logfmt(attributes.texts(semconv.VICTIM_MAPPINGS_LARGEST))
    if not mappings:
        return None
    sizes = [int(text) if (text := each.get("size", "")).isdecimal() else 0 for each in mappings]
    rows = tuple(
        (each.get("kind", ""), format_bytes(size), each.get("count", ""), each.get("name", "-"))
        for each, size in zip(mappings, sizes, strict=True)
    )
    count = attributes.integer(semconv.VICTIM_MAPPINGS_COUNT)
    skipped = attributes.integer(semconv.VICTIM_MAPPINGS_SKIPPED)
    caption = f"{count} mappings. SIZE is address space, not resident memory."
    caption += f" {skipped} more were not read." if skipped else ""
    table = Table(
        _HEADS, rows, bar_column=_SIZE, shares=tuple(size / (max(sizes) or 1) for size in sizes)
    )
    return Section("mappings", "Mappings of the victim", (Paragraph(caption, "muted"), table))
