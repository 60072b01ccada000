"""The recorder of memory usage: its interval, and the share at which a limit is near."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.config.store import parse_seconds
from otel_oom.config.variable import read_variable

USAGE_INTERVAL: Final = "OTEL_OOM_USAGE_INTERVAL"
NEAR_LIMIT: Final = "OTEL_OOM_NEAR_LIMIT"

_WINDOW_S: Final = 600
_MAX_SAMPLES: Final = 240
_MAX_INTERVAL_S: Final = 60
_MIN_PERCENT: Final = 50
_MAX_PERCENT: Final = 99


class UsageConfig(Struct, frozen=True):
    """Usage is sampled every ``interval_s`` seconds; 0: not at all.

    A cgroup is near its limit from ``near_limit_percent`` of it; 0: no such event.
    """

    interval_s: int = 5
    near_limit_percent: int = 0

    @property
    def sample_count(self) -> int:
        """The samples of ten minutes, at most 240: with a short interval, of less time."""
        return min(_MAX_SAMPLES, _WINDOW_S // self.interval_s) + 1


def read_usage_config(environ: Mapping[str, str]) -> UsageConfig:
    """Return the settings in ``environ``. Raises ConfigError."""
    interval = read_variable(environ, USAGE_INTERVAL, default="5s")
    interval_s = 0 if interval.text.lower() in {"off", "0"} else parse_seconds(interval)
    if not 0 <= interval_s <= _MAX_INTERVAL_S:
        raise interval.error("off, or a time from 1s to 1m")
    near_limit = read_variable(environ, NEAR_LIMIT, default="off")
    percent = 0 if near_limit.text.lower() == "off" else _parse_percent(near_limit.text)
    if near_limit.text.lower() != "off" and not _MIN_PERCENT <= percent <= _MAX_PERCENT:
        raise near_limit.error("off, or a percentage from 50 to 99 such as 90")
    if percent and not interval_s:
        raise near_limit.error(f"it with {USAGE_INTERVAL}, which is off, or off")
    return UsageConfig(interval_s, percent)


def _parse_percent(text: str) -> int:
    digits = text.removesuffix("%").strip()
    return int(digits) if re.fullmatch(r"[0-9]{1,3}", digits) else -1
