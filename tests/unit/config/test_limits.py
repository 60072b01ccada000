"""Limits of attributes, by the names of the specification."""

from __future__ import annotations

import pytest

from otel_oom.config.limits import NO_LIMITS, TelemetryLimits, read_limits
from otel_oom.config.variable import read_log_level

ALL = {"log_attributes": 7, "span_attributes": 7, "span_event_attributes": 7}


@pytest.mark.parametrize(
    ("environ", "limits"),
    [
        ({}, NO_LIMITS),
        ({"OTEL_ATTRIBUTE_COUNT_LIMIT": "7"}, TelemetryLimits(**ALL)),
        (
            {"OTEL_ATTRIBUTE_COUNT_LIMIT": "7", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": "9"},
            TelemetryLimits(**(ALL | {"log_attributes": 9})),
        ),
        (
            {
                "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100",
                "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "50",
                "OTEL_SPAN_EVENT_COUNT_LIMIT": "0",
                "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "3",
            },
            TelemetryLimits(
                log_characters=100, span_characters=50, span_events=0, span_event_attributes=3
            ),
        ),
    ],
)
def test_the_limit_of_a_signal_wins(environ: dict[str, str], limits: TelemetryLimits) -> None:
    warnings: list[str] = []
    assert read_limits(environ, warnings.append) == limits
    assert not warnings


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "1e9", "9" * 30, "٣"])
def test_a_limit_that_is_no_number_is_ignored(value: str) -> None:
    warnings: list[str] = []
    environ = {"OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT": value}
    assert read_limits(environ, warnings.append) == NO_LIMITS
    (warning,) = warnings
    assert warning.startswith("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT=")


@pytest.mark.parametrize(
    ("value", "level"), [("", 20), ("DEBUG", 10), ("warn", 30), ("Error", 40), ("loud", 20)]
)
def test_log_level(value: str, level: int) -> None:
    warnings: list[str] = []
    assert read_log_level({"OTEL_LOG_LEVEL": value}, warnings.append) == level
    assert bool(warnings) == (value == "loud")
