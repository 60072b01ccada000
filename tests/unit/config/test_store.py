"""The store: its directory, and its limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_oom.config.store import (
    MAX_AGE,
    MAX_BYTES,
    MAX_SERIES,
    REPORT_INTERVAL,
    StoreLimits,
    read_replay_state_dir,
    read_report_interval_s,
    read_state_dir,
    read_store_limits,
)
from otel_oom.config.variable import ConfigError


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, StoreLimits()),
        ({MAX_BYTES: "", MAX_AGE: " "}, StoreLimits()),
        ({MAX_BYTES: "33554432"}, StoreLimits(max_bytes=32 << 20)),
        ({MAX_BYTES: "1GiB", MAX_AGE: "90d"}, StoreLimits(1 << 30, 90 * 86_400)),
        ({MAX_BYTES: "65536 KiB", MAX_AGE: "0s"}, StoreLimits(64 << 20, 0)),
        ({MAX_SERIES: "0"}, StoreLimits(max_series=0)),
        ({MAX_AGE: "36h"}, StoreLimits(max_age_s=36 * 3600)),
    ],
)
def test_read_store_limits(environ: dict[str, str], expected: StoreLimits) -> None:
    assert read_store_limits(environ) == expected
    assert StoreLimits() == StoreLimits(256 * 1024 * 1024, 30 * 24 * 60 * 60)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (MAX_BYTES, "1MiB"),
        (MAX_BYTES, "256MB"),
        (MAX_BYTES, "-1"),
        (MAX_BYTES, "lots"),
        (MAX_BYTES, "9" * 30),
        (MAX_AGE, "30"),
        (MAX_SERIES, "all"),
        (MAX_SERIES, "100001"),
        (MAX_AGE, "1 month"),
        (MAX_AGE, "99999d"),
    ],
)
def test_invalid_store_limits(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='{text}' is invalid: use "):
        read_store_limits({name: text})


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 0), ("off", 0), ("OFF", 0), ("0s", 0), ("10s", 10), ("1m", 60)]
)
def test_read_report_interval(text: str, seconds: int) -> None:
    assert read_report_interval_s({REPORT_INTERVAL: text}) == seconds


@pytest.mark.parametrize("text", ["on", "10", "-1s", "2d"])
def test_invalid_report_interval(text: str) -> None:
    with pytest.raises(ConfigError, match=f"{REPORT_INTERVAL}='{text}' is invalid: use off, or"):
        read_report_interval_s({REPORT_INTERVAL: text})


def test_state_dir_of_the_service_wins() -> None:
    assert read_state_dir({}) == Path("/var/lib/otel-oom")
    assert read_state_dir({"STATE_DIRECTORY": "/a:/b"}) == Path("/a")
    assert read_replay_state_dir({"STATE_DIRECTORY": "/a:/b"}) == Path("/a/replay")


@pytest.mark.parametrize(
    ("user_id", "state_home", "expected"),
    [
        (0, "/home/me/state", "/var/lib/otel-oom-replay"),
        (1000, "/home/me/state", "/home/me/state/otel-oom-replay"),
        (1000, "relative", os.path.expanduser("~/.local/state/otel-oom-replay")),  # noqa: PTH111  as the code
    ],
)
def test_replay_uses_a_directory_of_the_user(
    user_id: int, state_home: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user_id)
    assert read_replay_state_dir({"XDG_STATE_HOME": state_home}) == Path(expected)
