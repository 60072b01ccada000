"""Rules for all readers of the kernel's files."""

from __future__ import annotations

from tests.testlib.repository import REPOSITORY

PACKAGES = ("agent", "enrich", "linux", "snapshot")


def test_a_line_ends_at_a_newline_only() -> None:
    """str.splitlines() ends it at characters too that a tenant can put into a name."""
    modules = (path for name in PACKAGES for path in (REPOSITORY / "otel_oom" / name).rglob("*.py"))
    assert not [path for path in modules if "splitlines(" in path.read_text(encoding="utf-8")]
