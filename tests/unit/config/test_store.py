"""Limits of the store."""

from __future__ import annotations

import pytest

from otel_oom.config.store import MAX_AGE, MAX_BYTES, StoreLimits, read_store_limits
from otel_oom.config.variable import ConfigError


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, StoreLimits()),
        ({MAX_BYTES: "", MAX_AGE: " "}, StoreLimits()),
        ({MAX_BYTES: "33554432"}, StoreLimits(max_bytes=32 << 20)),
        ({MAX_BYTES: "1GiB", MAX_AGE: "90d"}, StoreLimits(1 << 30, 90 * 86_400)),
        ({MAX_BYTES: "65536 KiB", MAX_AGE: "0s"}, StoreLimits(64 << 20, 0)),
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
        (MAX_AGE, "1 month"),
        (MAX_AGE, "99999d"),
    ],
)
def test_invalid_store_limits(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='{text}' is invalid: use "):
        read_store_limits({name: text})
