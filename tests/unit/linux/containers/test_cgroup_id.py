"""Container ids in cgroup paths."""

from __future__ import annotations

import pytest

from otel_oom.linux.containers.cgroup_id import ContainerId, find_container_id
from tests.testlib.samples.events import CONTAINER_ID as ID

OUTER = "f" * 64
POD = "pod0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
POD_SYSTEMD = "pod0b1c2d3e_4f50_6172_8394_a5b6c7d8e9f0"


@pytest.mark.parametrize(
    ("path", "runtime"),
    [
        (f"/docker/{ID}", "docker"),
        (f"/system.slice/docker-{ID}.scope", "docker"),
        (f"/libpod_parent/libpod-{ID}", "podman"),
        (f"/machine.slice/libpod-{ID}.scope", "podman"),
        (f"/machine.slice/libpod-{ID}.scope/container", "podman"),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", "podman"),
        (f"/system.slice/web.service/libpod-payload-{ID}", "podman"),
        (f"/k8s.io/{ID}", "containerd"),
        (f"/default/{ID}", None),
        (f"/system.slice/nerdctl-{ID}.scope", "containerd"),
        (f"/kubepods-{POD_SYSTEMD}.slice:cri-containerd:{ID}", "containerd"),
        (f"/kubepods/burstable/{POD}/{ID}", None),
        (f"/kubepods/besteffort/{POD}/crio-{ID}", "cri-o"),
        (f"/kubepods.slice/kubepods-{POD_SYSTEMD}.slice/cri-containerd-{ID}.scope", "containerd"),
        (f"/kubepods.slice/kubepods-{POD_SYSTEMD}.slice/crio-{ID}.scope", "cri-o"),
        (f"/kubepods.slice/kubepods-{POD_SYSTEMD}.slice/docker-{ID}.scope/init", "docker"),
        (f"/docker/{OUTER}/kubepods/{POD}/{ID}", None),
    ],
)
def test_container_id_is_the_innermost_of_the_path(path: str, runtime: str | None) -> None:
    assert find_container_id(path) == ContainerId(ID, runtime)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/user.slice/user-0.slice/session-1.scope",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        f"/system.slice/crio-conmon-{ID}.scope",
        f"/docker/{ID[:-1]}",
        f"/docker/{ID}0",
        f"/docker/{ID.upper()}",
        f"…/{ID}x",
    ],
)
def test_other_paths_have_no_container_id(path: str) -> None:
    assert find_container_id(path) is None
