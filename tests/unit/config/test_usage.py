"""The settings of the recorder of usage."""

from __future__ import annotations

import pytest

from otel_oom.config.usage import NEAR_LIMIT, USAGE_INTERVAL, read_usage_config
from otel_oom.config.variable import ConfigError


@pytest.mark.parametrize(
    ("text", "interval_s"), [("", 5), ("off", 0), ("OFF", 0), ("0", 0), ("1s", 1), ("1m", 60)]
)
def test_interval(text: str, interval_s: int) -> None:
    assert read_usage_config({USAGE_INTERVAL: text}).interval_s == interval_s


@pytest.mark.parametrize("text", ["5", "-1s", "2m", "500ms", "often"])
def test_invalid_interval(text: str) -> None:
    with pytest.raises(ConfigError, match=r"OTEL_OOM_USAGE_INTERVAL=.* off, or a time from 1s"):
        read_usage_config({USAGE_INTERVAL: text})


def test_samples_of_ten_minutes_are_bounded() -> None:
    counts = {s: read_usage_config({USAGE_INTERVAL: f"{s}s"}).sample_count for s in (1, 5, 60)}
    assert counts == {1: 241, 5: 121, 60: 11}


@pytest.mark.parametrize(("text", "percent"), [("", 0), ("off", 0), ("90", 90), ("75 %", 75)])
def test_near_limit(text: str, percent: int) -> None:
    assert read_usage_config({NEAR_LIMIT: text}).near_limit_percent == percent


@pytest.mark.parametrize("text", ["0", "49", "100", "0.9", "-90", "near"])
def test_invalid_near_limit(text: str) -> None:
    with pytest.raises(ConfigError, match=r"OTEL_OOM_NEAR_LIMIT=.* percentage from 50 to 99"):
        read_usage_config({NEAR_LIMIT: text})


def test_near_limit_needs_samples() -> None:
    with pytest.raises(ConfigError, match=r"OTEL_OOM_USAGE_INTERVAL, which is off"):
        read_usage_config({NEAR_LIMIT: "90", USAGE_INTERVAL: "off"})
