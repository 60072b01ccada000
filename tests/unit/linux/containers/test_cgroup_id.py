"""Container ids in cgroup paths."""

from __future__ import annotations

import pytest

from otel_oom.linux.containers.cgroup_id import containers_in_path, find_container_ids
from otel_oom.model.types import Memcg
from tests.testlib.samples.events import CONTAINER_ID as ID

OUTER = "f" * 64
USER = "/user.slice/user-1000.slice/user@1000.service"
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
        (f"/k8s.io/{ID}", "containerd"),
        (f"/default/{ID}", None),
        (f"/system.slice/nerdctl-{ID}.scope", "containerd"),
        (f"/kubepods-{POD_SYSTEMD}.slice:cri-containerd:{ID}", "containerd"),
        (f"/kubepods/burstable/{POD}/{ID}", None),
        (f"/kubepods/besteffort/{POD}/crio-{ID}", "cri-o"),
        (f"/kubepods.slice/kubepods-{POD_SYSTEMD}.slice/cri-containerd-{ID}.scope", "containerd"),
        (f"/kubepods.slice/kubepods-{POD_SYSTEMD}.slice/crio-{ID}.scope", "cri-o"),
        (f"/kubepods.slice/kubepods-{POD_SYSTEMD}.slice/docker-{ID}.scope/init", "docker"),
        (f"/system.slice/containerd.service/kubepods-{POD_SYSTEMD}.slice:crio:{ID}", "cri-o"),
        (f"/system.slice/containerd.service/{ID}", None),
        (f"/docker/{OUTER}/kubepods/{POD}/{ID}", None),
        (f"/docker/{OUTER}/kubelet/kubepods/burstable/{POD}/{ID}", None),
        (f"/machine.slice/libpod-{OUTER}.scope/container/libpod_parent/libpod-{ID}", "podman"),
        (f"/libpod_parent/{OUTER}/libpod-{ID}", "podman"),
        (f"/machine.slice/machine-libpod_pod_{OUTER}.slice/libpod-{ID}.scope", "podman"),
        (f"/lxc.payload.guest/docker/{ID}", "docker"),
        (f"/lxc/101/ns/system.slice/docker-{ID}.scope", "docker"),
    ],
)
def test_container_id_is_the_innermost_of_the_path(path: str, runtime: str | None) -> None:
    found = containers_in_path(Memcg(1, path))[-1]
    assert (found.id, found.runtime) == (ID, runtime)


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
    assert find_container_ids(path) == ()


@pytest.mark.parametrize(
    "path",
    [
        f"{USER}/user.slice/libpod-{ID}.scope",
        f"{USER}/kubepods.slice/kubepods-{POD_SYSTEMD}.slice/cri-containerd-{ID}.scope",
        f"{USER}/cri-containerd-{ID}.scope",
        f"/system.slice/web.service/libpod-payload-{ID}",
        f"/system.slice/web.service/system.slice/docker-{ID}.scope",
        f"/lxc.payload/docker/{ID}",
        f"/tenants/a/{ID}",
        f"/node/kubepods/burstable/{POD}/{ID}",
        f"…/kubepods.slice/kubepods-{POD_SYSTEMD}.slice/cri-containerd-{ID}.scope",
    ],
)
def test_an_id_that_another_owner_of_cgroups_can_choose_is_no_container(path: str) -> None:
    """A user's manager, a service, a custom parent: only a runtime's own files confirm it."""
    assert containers_in_path(Memcg(1, path)) == []
    (found,) = find_container_ids(path)
    assert (found.id, found.cgroup, found.scope, found.placed) == (ID, path, "", False)


def test_a_name_within_a_container_is_in_the_scope_of_that_container() -> None:
    outer = f"/docker/{OUTER}"
    for path, placed in ((f"{outer}/docker/{ID}", True), (f"{outer}/x/{ID}", False)):
        found = find_container_ids(path)[-1]
        assert (found.id, found.scope, found.placed) == (ID, outer, placed)


@pytest.mark.parametrize(
    "guest",
    [
        "/lxc/101/ns",
        "/lxc/101",
        "/lxc.payload.web",
        "/machine.slice/systemd-nspawn@web.service/payload",
        "/machine.slice/machine-web.scope",
    ],
)
def test_a_name_within_a_system_container_is_in_the_scope_of_that_guest(guest: str) -> None:
    (found,) = find_container_ids(f"{guest}/system.slice/docker-{ID}.scope")
    assert (found.id, found.scope, found.placed) == (ID, guest, True)


def test_the_number_of_unconfirmed_names_is_bounded() -> None:
    names = "/".join(f"{number:064x}" for number in range(60))
    assert len(find_container_ids(f"{USER}/{names}")) == 4
    nested = f"/docker/{OUTER}" * 60
    assert len(find_container_ids(nested)) == 12
