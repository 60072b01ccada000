"""The ring buffer is shared among holders: one in a loop of kills leaves space for the others."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.maps import InheritedMaps
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.linux.temporary_cgroup import Cgroup, TemporaryCgroup
from tests.testlib.kernel.bpffs import mount_bpffs
from tests.testlib.kernel.kills import kill_in
from tests.testlib.kernel.memcg import MEMCG_LIMIT
from tests.testlib.kernel.ring_storm import RING_BYTES, check_ring_share

pytestmark = pytest.mark.usefixtures("real_kills")

USAGE = "oom_ring_usage"


def test_quiet_holders_kill_is_complete_beside_a_storm() -> None:
    with LibbpfSource(RING_BYTES) as source:
        check_ring_share(source)


@pytest.mark.parametrize(
    ("path", "holder_depth"),
    [
        ("otel-oom-test", 1),
        ("otel-oom-test/a.service", 2),
        ("otel-oom-test/a.service/sub/sub", 2),
        ("lxc.payload.otel-oom-test/system.slice/a.service", 1),
        (
            "kubepods-otel-oom-test/kubepods-burstable.slice/kubepods-burstable-pod1.slice/c.scope",
            3,
        ),
        ("kubepods-otel-oom-test/besteffort/pod1/c/sub", 3),
        ("kubepods-otel-oom-test/kubepods-pod1.slice/c.scope/sub", 2),
        ("kubepods-otel-oom-test/pod1/c", 2),
        ("/".join(["otel-oom-test", *"abcdefghijklmnopqrstuvwxyz0123456789"]), 0),
    ],
)
def test_holder_is_the_pod_container_user_or_service(
    tmp_path: Path, path: str, holder_depth: int
) -> None:
    """Cgroups more than 32 levels deep have no holder."""
    library = Libbpf()
    with ExitStack() as stack:
        pin_dir = stack.enter_context(mount_bpffs(tmp_path / "bpffs")) / "otel-oom" / "v1"
        stack.enter_context(LibbpfSource(RING_BYTES, pin_dir=pin_dir))
        (pin,) = pin_dir.glob(f"*/maps/{USAGE}")
        name, *below = path.split("/")
        parents: list[Cgroup] = [stack.enter_context(TemporaryCgroup(name, MEMCG_LIMIT))]
        for child in below:
            parents[-1].delegate_memory()
            parents.append(stack.enter_context(parents[-1].child(child)))
        kill_in(parents[-1])
        maps = InheritedMaps(library, {USAGE: library.call("bpf_obj_get", os.fsencode(pin))}, [])
        holders = {int.from_bytes(key, "little") for key, _ in maps.entries(USAGE, 8, 128, 100)}
        maps.close()
        expected = parents[holder_depth - 1].inode if holder_depth else 0
        assert expected in holders
        assert not holders & ({cgroup.inode for cgroup in parents} - {expected})
