"""A user's own ``linux.cgroupsPath``, made to take the agent's memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.cgroups_path import names_cgroup
from otel_oom.linux.containers.oci_bundle import read_bundle

WORDS = "-".join("a" * 5000)
"""A slice of 10 KB, whose path has 25 MB: of 1 MB it would have 250 GB."""


def test_a_slice_with_thousands_of_parents_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        assert not names_cgroup(f"{WORDS}.slice:libpod:x", "/a", whole=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_cgroup_path_that_no_kernel_accepts_is_not_kept(tmp_path: Path) -> None:
    for cgroups_path, kept in (("/a", "/a"), ("/a" * 3000, ""), (None, "")):
        (tmp_path / "x").mkdir(exist_ok=True)
        config = {"linux": {"cgroupsPath": cgroups_path}}
        (tmp_path / "x/config.json").write_text(json.dumps(config), encoding="ascii")
        bundle = read_bundle("x", BundleDir(Path("/"), tmp_path), frozenset())
        assert bundle is not None
        assert bundle.cgroups_path == kept
