"""Limits of attributes, as the SDK has them: ``OTEL_ATTRIBUTE_COUNT_LIMIT`` and the like.

Specification: Environment Variable Specification, "Attribute Limits", "Span Limits" and "LogRecord
Limits". They may lower the agent's own limits, and not raise them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.config.variable import Warn, read_variable

_MAX: Final = 1e9


class TelemetryLimits(Struct, frozen=True):
    """Numbers of attributes, span events, and characters of an attribute; ``None``: no limit."""

    log_attributes: int | None = None
    log_characters: int | None = None
    span_attributes: int | None = None
    span_characters: int | None = None
    span_events: int | None = None
    span_event_attributes: int | None = None


NO_LIMITS: Final = TelemetryLimits()


def read_limits(environ: Mapping[str, str], warn: Warn) -> TelemetryLimits:
    """Return the limits in ``environ``; ``warn`` gets a sentence for each value that is ignored."""

    def read(*names: str) -> int | None:
        variable = read_variable(environ, *(f"OTEL_{name}_LIMIT" for name in names))
        if not variable.text:
            return None
        return variable.whole_or_warn(warn, _MAX, "a whole number, such as 128")

    return TelemetryLimits(
        log_attributes=read("LOGRECORD_ATTRIBUTE_COUNT", "ATTRIBUTE_COUNT"),
        log_characters=read("LOGRECORD_ATTRIBUTE_VALUE_LENGTH", "ATTRIBUTE_VALUE_LENGTH"),
        span_attributes=read("SPAN_ATTRIBUTE_COUNT", "ATTRIBUTE_COUNT"),
        span_characters=read("SPAN_ATTRIBUTE_VALUE_LENGTH", "ATTRIBUTE_VALUE_LENGTH"),
        span_events=read("SPAN_EVENT_COUNT"),
        span_event_attributes=read("EVENT_ATTRIBUTE_COUNT", "ATTRIBUTE_COUNT"),
    )
