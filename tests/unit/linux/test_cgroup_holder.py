"""The holder of a cgroup, by its path."""

from __future__ import annotations

import random

import pytest

from otel_oom.linux.cgroup_holder import find_holder
from tests.testlib.samples.events import CONTAINER_ID

UID = "7f0c1e52_5f8e_4c5e_9a57_0d3d0f6b3c11"
DASHED = UID.replace("_", "-")
POD = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID}.slice"

HOLDERS = [
    POD,
    f"/kubepods.slice/kubepods-pod{UID}.slice",
    f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID}.slice",
    f"/kubepods/burstable/pod{DASHED}",
    f"/kubepods/pod{DASHED}",
    f"/docker/{CONTAINER_ID}",
    f"/system.slice/docker-{CONTAINER_ID}.scope",
    f"/machine.slice/libpod-{CONTAINER_ID}.scope",
    f"/libpod_parent/libpod-{CONTAINER_ID}",
    f"/k8s.io/{CONTAINER_ID}",
    f"/tenants.slice/tenants-a.slice/docker-{CONTAINER_ID}.scope",
    "/user.slice/user-1000.slice",
    "/system.slice/nginx.service",
    f"/system.slice/containerd.service/kubepods-burstable-pod{UID}.slice:cri-containerd:{CONTAINER_ID}",
    "/system.slice/system-getty.slice/getty@tty1.service",
    "/lxc/web",
    "/machine/qemu-1-web.libvirt-qemu",
    "/ecs/0123456789abcdef",
    "/lxc.payload.web",
    "/init.scope",
    "/jobs",
]
BELOW = [
    *("a", "x.slice", "user-0.slice", f"docker-{'f' * 64}.scope", "docker", "kubepods", "…"),
    *(f"kubepods-pod{UID}.slice", f"pod{DASHED}", "user@1000.service", "app.slice", "a b", "\n"),
]


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_a_tenant_creates_below_its_cgroup_makes_no_other_holder(holder: str) -> None:
    assert find_holder(holder) == holder
    chosen = random.Random(holder)  # noqa: S311  a sample
    for _ in range(50):
        below = chosen.choices(BELOW, k=chosen.randint(1, 5))
        assert find_holder("/".join([holder, *below])) == holder


@pytest.mark.parametrize("path", ["", "…/a/b", "a/b", "0::/a"])
def test_a_path_without_its_beginning_has_no_holder(path: str) -> None:
    assert find_holder(path) == ""


def test_a_process_outside_of_services_belongs_to_its_slice() -> None:
    assert find_holder("/") == "/"
    assert find_holder("/system.slice") == "/system.slice"
