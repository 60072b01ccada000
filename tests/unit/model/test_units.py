"""Sizes as people read them."""

from __future__ import annotations

from otel_oom.model.units import format_bytes


def test_format_bytes() -> None:
    sizes = {0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 52 << 20: "52.0 MiB", 3 << 50: "3.0 PiB"}
    assert {count: format_bytes(count) for count in sizes} == sizes
