"""What the build of the wheel's libbpf must agree with."""

from __future__ import annotations

import re

from tests.testlib.repository import REPOSITORY


def read_text(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_the_library_exports_each_function_that_is_called() -> None:
    """Those of the binding, and no other."""
    exported = re.findall(r"(?m)^    (\w+);$", read_text("native/libbpf.map"))
    called = re.findall(r'(?m)^    "(\w+)": \(', read_text("otel_oom/capture/bpf/libbpf.py"))
    assert exported == sorted(called)
    assert exported


def test_an_isolated_build_has_the_compiler_of_make_dist() -> None:
    named = re.search(r'"(ziglang==[\d.]+)"', read_text("hatch_build.py"))
    assert named
    assert f"{named[1]} \\\n" in read_text("requirements-dist.txt")
