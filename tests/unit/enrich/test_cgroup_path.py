"""The deepest known cgroup of a victim."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.cgroup_path import finest_cgroup_path
from otel_oom.model.types import Memcg
from tests.testlib.samples.events import (
    KILL,
    SNAPSHOT,
)


@pytest.mark.parametrize(
    ("memory", "cgroup", "expected"),
    [
        ("/a", "0::/a/b\n", "/a/b"),
        ("/a", "0::/a\n", "/a"),
        ("/", "5:memory:/\n1:name=systemd:/system.slice/x.service\n", "/system.slice/x.service"),
        ("/a", "5:memory:/a\n3:cpu:/a/b\n0::/\n", "/a"),
        ("/a", "0::/other\n", "/a"),
        ("/a", "0::/ab\n", "/a"),
        ("/", "0::/../../a\n", "/"),
        ("/", "0::/\n", "/"),
        ("/a:b", "0::/a:b/c:d\n", "/a:b/c:d"),
        ("/a", None, "/a"),
        ("/a", "nonsense", "/a"),
    ],
)
def test_finest_cgroup_path_continues_the_memory_cgroup(
    memory: str, cgroup: str | None, expected: str
) -> None:
    kill = replace(KILL, memcg=Memcg(id=42, path=memory))
    assert finest_cgroup_path(kill, replace(SNAPSHOT, cgroup=cgroup)) == expected
