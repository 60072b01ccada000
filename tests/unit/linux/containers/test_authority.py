"""Processes, files and cgroups of users and containers that claim to be those of others."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.linux.containers import lookup as lookup_module
from otel_oom.linux.containers import oci_bundle, shims
from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.containers.service import ContainerService
from otel_oom.linux.containers.watcher import BundleWatcher
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, Task
from tests.testlib.containers.processes import conmon_command, make_process
from tests.testlib.require import require
from tests.testlib.samples.events import KILL
from tests.testlib.wait import wait_until

OWN, OTHER, OUTER = "1" * 64, "2" * 64, "3" * 64
POD = "pod0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
NOBODY = 65534
UID = os.getuid() or NOBODY
"""Files of another user can be made by root only."""

SLICE = f"/user.slice/user-{UID}.slice"
USER = f"{SLICE}/user@{UID}.service"
COREDNS = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "coredns",
    "io.kubernetes.cri.sandbox-name": "coredns-0",
    "io.kubernetes.cri.sandbox-namespace": "kube-system",
}


@pytest.fixture(autouse=True)
def _initial_pid_namespace() -> None:
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel")


def write_bundle(
    folder: Path,
    container_id: str,
    cgroups_path: str,
    annotations: Mapping[str, str] = COREDNS,
    uid: int | None = None,
) -> Path:
    """Write a bundle into a directory of bundles; return its own directory."""
    bundle = folder / container_id
    bundle.mkdir(parents=True)
    config = {"annotations": annotations, "linux": {"cgroupsPath": cgroups_path}}
    (bundle / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if uid is not None and not os.getuid():
        os.chown(bundle / "config.json", uid, uid)
    return bundle


def find_victims_container(
    lookup: ContainerLookup, cgroup: str, ancestor: int = 10
) -> Container | None:
    """Return the container of a victim whose parent is ``ancestor``."""
    victim = replace(KILL.victim, ppid=ancestor)
    event = replace(KILL, victim=victim, memcg=Memcg(1, cgroup), trigger=None)
    return lookup.resolve(event, processes=True).victim


def has_name(container: Container | None) -> bool:
    """Return whether anything but a path describes the container."""
    return container is not None and bool(container.name or container.annotations)


@contextmanager
def run_conmon(*words: str) -> Iterator[tuple[int, int]]:
    """Run a process of uid 65534 with a shim's name and arguments; yield its pid and a child's."""
    with ExitStack() as stack:
        program = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "conmon"
        program.write_text("#!/bin/sh\nsleep 1000 &\necho $!\nwait\n", encoding="ascii")
        for path in (program, program.parent):
            path.chmod(0o755)
        process = stack.enter_context(
            subprocess.Popen(
                [program, *words], user=NOBODY, stdout=subprocess.PIPE, start_new_session=True
            )
        )
        assert process.stdout
        child = int(process.stdout.readline())
        try:
            yield process.pid, child
        finally:
            os.killpg(process.pid, 9)


@pytest.mark.root
def test_a_users_process_named_conmon_describes_no_container(tmp_path: Path) -> None:
    """Not when the agent starts, not when a bundle appears, not at a kill."""
    path = f"/kubepods/burstable/{POD}/{OWN}"
    bundles = tmp_path / "bundles"
    bundle = write_bundle(bundles, OWN, path)
    lookup = ContainerLookup(frozenset())
    watcher = BundleWatcher(lookup)
    with run_conmon(*conmon_command(bundle, OWN)[1:]) as (pid, child):
        for _ in watcher.read_running():
            pass
        write_bundle(bundles, OTHER, path.replace(OWN, OTHER))
        watcher.read_new()
        watcher.retry_pending()
        at_kill = find_victims_container(lookup, path, child)
        assert Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "conmon\n"
    watcher.close()
    assert lookup.get(OWN) is None
    assert lookup.get(OTHER) is None
    assert at_kill is not None
    assert (at_kill.id, at_kill.name, at_kill.annotations) == (OWN, None, {})


@pytest.mark.parametrize(
    ("claims", "believed"),
    [
        ({}, True),
        ({"cgroup": "/system.slice/containerd.service"}, True),
        ({"uid": UID}, False),
        ({"other": "user"}, False),
        ({"other": "mnt"}, False),
        ({"cgroup": f"/docker/{OUTER}"}, False),
        ({"cgroup": f"/tenants/a/{OUTER}/x"}, False),
        ({"cgroup": f"/../../kubepods.slice/cri-containerd-{OUTER}.scope"}, False),
        ({"cgroup": f"{USER}/user.slice/libpod-{OUTER}.scope"}, False),
    ],
)
def test_a_shim_of_the_host_is_root_in_inits_namespaces_and_in_no_container(
    tmp_path: Path,
    claims: dict[str, Any],
    believed: bool,  # noqa: FBT001  a parameter of the table
) -> None:
    path, proc = f"/kubepods/burstable/{POD}/{OWN}", tmp_path / "proc"
    bundle = write_bundle(tmp_path / "bundles", OWN, path)
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN), **claims)
    at_kill, at_start = (ContainerLookup(frozenset(), proc) for _ in range(2))
    for _ in BundleWatcher(at_start).read_running(proc):
        pass
    assert has_name(find_victims_container(at_kill, path)) == believed
    assert has_name(at_start.get(OWN)) == believed


def test_a_shim_in_a_container_does_not_win_over_the_hosts(tmp_path: Path) -> None:
    """A containerd shim serves a whole pod, so it may name the container in which it runs."""
    path, proc = f"/kubepods/burstable/{POD}/{OWN}", tmp_path / "proc"
    name = {**COREDNS, "io.kubernetes.cri.container-name": "web"}
    of_host = write_bundle(tmp_path / "host", OWN, path, name)
    forged = write_bundle(tmp_path / "forged", OTHER, "/x")
    write_bundle(tmp_path / "forged", OWN, path)
    host_shim = make_process(proc, 10, 1, "containerd-shim", "shim", "-id", OWN)
    inner_shim = make_process(proc, 11, 10, "containerd-shim", "shim", "-id", OTHER, cgroup=path)
    (host_shim / "cwd").symlink_to(of_host)
    (inner_shim / "cwd").symlink_to(forged)
    container = find_victims_container(ContainerLookup(frozenset(), proc), path, ancestor=11)
    assert container is not None
    assert container.name == "web"


def test_a_container_in_another_one_is_described_by_its_own_shim_only(tmp_path: Path) -> None:
    """It is believed about the cgroups below its container, except for an id that is the host's."""
    outer, proc = f"/docker/{OUTER}", tmp_path / "proc"
    inner = f"{outer}/libpod_parent/libpod-{OWN}"
    bundle = write_bundle(tmp_path / "inner", OWN, f"/libpod_parent/libpod-{OWN}")
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN), cgroup=outer)
    lookup = ContainerLookup(frozenset(), proc)
    container = find_victims_container(lookup, inner)
    assert has_name(container)
    assert container is not None
    assert container.scope == outer
    elsewhere = find_victims_container(lookup, inner.replace(OUTER, OTHER))
    assert (elsewhere is not None and elsewhere.id, has_name(elsewhere)) == (OWN, False)
    # The host has a container of that id somewhere else: the claim is forged.
    of_host = write_bundle(tmp_path / "host", OWN, f"/docker/{OWN}")
    make_process(proc, 20, 1, "conmon", *conmon_command(of_host, OWN))
    for _ in BundleWatcher(lookup).read_running(proc):
        pass
    victim = find_victims_container(lookup, inner)
    assert victim is not None
    assert victim.id == OUTER


def test_a_runtime_in_a_guest_is_believed_within_that_guest(tmp_path: Path) -> None:
    """It has other users and mounts than the host."""
    proc, path = tmp_path / "proc", f"/lxc/101/ns/docker/{OWN}"
    bundle = write_bundle(tmp_path / "guest", OWN, f"/docker/{OWN}")
    words = ("shim", "-id", OWN)
    cgroup = "/lxc/101/ns/system.slice/containerd.service"
    shim = make_process(proc, 10, 1, "containerd-shim", *words, cgroup=cgroup, uid=UID)
    (shim / "cwd").symlink_to(bundle)
    lookup = ContainerLookup(frozenset(), proc)
    assert has_name(find_victims_container(lookup, path))
    for other in (f"/lxc/102/ns/docker/{OWN}", f"/docker/{OWN}"):
        assert not has_name(find_victims_container(lookup, other))


@pytest.mark.parametrize(("started_s", "found"), [(0, True), (60, False)])
def test_a_later_process_is_no_ancestor(
    tmp_path: Path,
    started_s: int,
    found: bool,  # noqa: FBT001  a parameter of the table
) -> None:
    """The parent of a victim is older; a container can take its pid once it is gone."""
    proc = tmp_path / "proc"
    bundle = write_bundle(tmp_path / "host", OWN, f"/docker/{OWN}")
    make_process(proc, 9, 1, "conmon", *conmon_command(bundle, OWN))
    make_process(proc, 10, 9, "sh", started_s=started_s)
    container = find_victims_container(ContainerLookup(frozenset(), proc), "/system.slice")
    assert has_name(container) == found


def test_in_another_pid_namespace_no_process_is_an_ancestor(tmp_path: Path) -> None:
    """Its /proc has other numbers than the kernel's record."""
    proc = tmp_path / "proc"
    bundle = write_bundle(tmp_path / "host", OWN, f"/docker/{OWN}")
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN))
    (proc / "self/ns/pid").unlink()
    (proc / "self/ns/pid").touch()
    assert find_victims_container(ContainerLookup(frozenset(), proc), "/system.slice") is None


def test_what_the_host_has_is_not_overwritten(tmp_path: Path) -> None:
    """Not even after the shim of the host's container has ended."""
    path, proc = f"/kubepods/burstable/{POD}/{OWN}", tmp_path / "proc"
    name = {**COREDNS, "io.kubernetes.cri.container-name": "web"}
    of_host = write_bundle(tmp_path / "host", OWN, path, name)
    forged = write_bundle(tmp_path / "forged", OWN, path, uid=UID)
    shim = make_process(proc, 10, 1, "conmon", *conmon_command(of_host, OWN))
    lookup = ContainerLookup(frozenset(), proc)
    for _ in range(2):
        for _ in BundleWatcher(lookup).read_running(proc):
            pass
        container = find_victims_container(lookup, path, 11)
        assert container is not None
        assert container.name == "web"
        shutil.rmtree(shim, ignore_errors=True)
        if not (proc / "11").exists():
            make_process(proc, 11, 1, "conmon", *conmon_command(forged, OWN), uid=UID)


@pytest.mark.parametrize(
    "path",
    [
        f"{USER}/cri-containerd-{OWN}.scope",
        f"{USER}/kubepods.slice/kubepods-burstable.slice/cri-containerd-{OWN}.scope",
        f"/system.slice/web.service/kubepods/burstable/{POD}/{OWN}",
        f"/docker/{OUTER}/kubepods/burstable/{POD}/{OWN}",
        f"/docker/{OUTER}/{OWN}",
    ],
)
def test_the_id_of_another_container_in_a_path_is_no_identity(tmp_path: Path, path: str) -> None:
    """Its owner names a cgroup as it likes, in a user's manager, a service or a container."""
    proc = tmp_path / "proc"
    bundle = write_bundle(tmp_path / "host", OWN, f"/kubepods/burstable/{POD}/{OWN}")
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN))
    lookup = ContainerLookup(frozenset(), proc)
    for _ in BundleWatcher(lookup).read_running(proc):
        pass
    event = replace(KILL, memcg=Memcg(1, path), trigger=None)
    for found in (lookup.resolve(event, processes=True), lookup.resolve_cached(event)):
        assert OWN not in str(found)


@pytest.mark.parametrize(
    ("cgroups_path", "path", "fits"),
    [
        (f"/tenants/a/{OWN}", f"/tenants/a/{OWN}", True),
        (f"/node/kubepods/{POD}/{OWN}", f"/node/kubepods/{POD}/{OWN}/init", True),
        (f"/system.slice/web.service/libpod-payload-{OWN}",) * 2 + (True,),
        (
            f"tenants-a.slice:docker:{OWN}",
            f"/tenants.slice/tenants-a.slice/docker-{OWN}.scope",
            True,
        ),
        (f":libpod:{OWN}", f"/system.slice/libpod-{OWN}.scope", True),
        (f"k.slice:crio:{OWN}", f"/system.slice/crio.service/k.slice:crio:{OWN}", True),
        (f"k.slice:crio:{OWN}", f"{USER}/k.slice:crio:{OWN}", False),
        (f"a.slice:docker:{OWN}", f"{USER}/a.slice/docker-{OWN}.scope", False),
        (f"/tenants/a/{OWN}", f"{USER}/tenants/a/{OWN}", False),
        (f"/tenants/a/{OWN}", f"/tenants/b/{OWN}", False),
        (f"a/{OWN}", f"/system.slice/docker.service/a/{OWN}", True),
        (f"a/{OWN}", f"/system.slice/web.service/a/{OWN}", False),
        ("", f"/tenants/a/{OWN}", False),
        ("/", f"/tenants/a/{OWN}", False),
        (f"--.slice:docker:{OWN}", f"/docker/x/docker-{OWN}.scope", False),
    ],
)
def test_a_custom_parent_is_accepted_where_the_runtime_names_it(
    tmp_path: Path,
    cgroups_path: str,
    path: str,
    fits: bool,  # noqa: FBT001  a parameter of the table
) -> None:
    """By ``docker --cgroup-parent`` and the kubelet's ``--cgroup-root``."""
    proc = tmp_path / "proc"
    bundle = write_bundle(tmp_path / "host", OWN, cgroups_path)
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN))
    assert has_name(find_victims_container(ContainerLookup(frozenset(), proc), path)) == fits


@pytest.mark.parametrize(
    ("path", "believed"),
    [
        (f"{USER}/user.slice/libpod-{OWN}.scope", True),
        # No cgroup names the container.
        (f"{SLICE}/session-1.scope", True),
        (SLICE, True),
        (f"{SLICE}0/session-1.scope", False),
        ("/user.slice/user-7.slice/session-1.scope", False),
        ("/system.slice/web.service", False),
        (f"/machine.slice/libpod-{OWN}.scope", False),
    ],
)
def test_a_users_runtime_is_believed_below_the_users_slice(
    tmp_path: Path,
    path: str,
    believed: bool,  # noqa: FBT001  a parameter of the table
) -> None:
    """And not about pods: no kubelet is a user's."""
    proc, annotations = tmp_path / "proc", {"io.container.manager": "libpod", **COREDNS}
    storage = tmp_path / "vfs-containers"
    bundle = write_bundle(storage, OWN, f"user.slice:libpod:{OWN}", annotations, UID)
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN), uid=UID, other="user")
    container = find_victims_container(ContainerLookup(frozenset(), proc), path)
    assert (container.name if container else None) == ("web" if believed else None)
    if container:
        assert container.annotations == {}
        assert container.scope == (SLICE if believed else "")


@pytest.mark.root
def test_a_user_describes_its_container_by_its_own_files_only(tmp_path: Path) -> None:
    """A shim can point to the bundle of anybody, which root could read."""
    proc = tmp_path / "proc"
    bundle = write_bundle(tmp_path / "host", OWN, f"user.slice:libpod:{OWN}", uid=0)
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN), uid=UID)
    path = f"{USER}/user.slice/libpod-{OWN}.scope"
    assert find_victims_container(ContainerLookup(frozenset(), proc), path) is None


def test_a_host_that_is_a_container_has_the_end_of_a_path(tmp_path: Path) -> None:
    """As the agent of a node of kind: the kernel's paths begin with the container of the node."""
    proc = tmp_path / "proc"
    bundle = write_bundle(tmp_path / "host", OWN, f"/kubelet/kubepods/{POD}/{OWN}")
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN))
    (proc / "1/ns/cgroup").touch()
    path = f"/docker/{OUTER}/kubelet/kubepods/{POD}/{OWN}"
    assert has_name(find_victims_container(ContainerLookup(frozenset(), proc), path))


def test_the_api_of_the_host_describes_no_container_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would add the name and labels of the host's container with the claimed id."""
    address = tmp_path / "sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{address}")
    service = ContainerService()
    own = Container(OWN, "docker", scope=SLICE)
    event = replace(KILL, memcg=Memcg(1, f"{USER}/docker-{OWN}.scope"), trigger=None)
    assert service.resolve_deferred(event, EventContainers(own)).victim == own


def test_the_hosts_shim_is_found_above_any_number_of_others(tmp_path: Path) -> None:
    """Few are read at a kill, and the host's is the outermost."""
    path, proc = f"/kubepods/burstable/{POD}/{OWN}", tmp_path / "proc"
    bundle = write_bundle(tmp_path / "host", OWN, path)
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN))
    words = conmon_command(write_bundle(tmp_path / "inner", OTHER, "/x"), OTHER)
    for pid in range(11, 50):
        make_process(proc, pid, pid - 1, "conmon", *words, cgroup=path)
    assert len(shims.find_shims(Task(50, ppid=49), proc)) == 8
    assert has_name(find_victims_container(ContainerLookup(frozenset(), proc), path, 49))


def test_the_files_that_a_container_has_read_at_a_kill_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By time: each of its shims may lead to a file for each name in the path."""
    proc, outer = tmp_path / "proc", f"/docker/{OUTER}"
    path = f"{outer}/docker/{OWN}"
    bundle = write_bundle(tmp_path / "inner", OTHER, "/x")
    write_bundle(tmp_path / "inner", OWN, "/elsewhere")
    for pid in range(10, 30):
        shim = make_process(proc, pid, pid - 1, "containerd-shim", "-id", OTHER, cgroup=outer)
        (shim / "cwd").symlink_to(bundle)
    reads: list[str] = []
    read = oci_bundle.read_bundle

    def count(container_id: str, bundle_dir: BundleDir, *options: Any) -> oci_bundle.Bundle | None:  # noqa: ANN401  its own
        reads.append(container_id)
        return read(container_id, bundle_dir, *options)

    monkeypatch.setattr(oci_bundle, "read_bundle", count)
    monkeypatch.setattr(ContainerLookup, "bundle_dirs", lambda _: [])
    for limit_s, number in ((30.0, 8), (-1.0, 1)):
        reads.clear()
        monkeypatch.setattr(lookup_module, "_OTHERS_S", limit_s)
        find_victims_container(ContainerLookup(frozenset(), proc), path, 29)
        assert reads.count(OWN) == number


def test_a_new_bundle_of_the_host_is_read_at_once(tmp_path: Path) -> None:
    """The premise of the tests above: what root's shim points to is watched."""
    proc, path = tmp_path / "proc", f"/docker/{OTHER}"
    bundle = write_bundle(tmp_path / "host", OWN, f"/docker/{OWN}")
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, OWN))
    lookup = ContainerLookup(frozenset(), proc)
    watcher = BundleWatcher(lookup)
    for _ in watcher.read_running(proc):
        pass
    write_bundle(tmp_path / "host", OTHER, path)
    watcher.read_new()
    wait_until(lambda: watcher.retry_pending() == float("inf"), "the bundle")
    watcher.close()
    assert has_name(lookup.get(OTHER))
