"""Containers whose bundle is gone, by their pod's sandbox and the kubelet's logs."""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from otel_oom.enrich.kubernetes import Pod, find_pod
from otel_oom.linux.containers import cri
from otel_oom.linux.containers.lookup import NOT_FOUND, TIMED_OUT, ContainerLookup
from otel_oom.linux.containers.pod_search import PodSearch
from otel_oom.linux.containers.service import ContainerService
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg
from tests.testlib.containers.processes import make_process
from tests.testlib.samples.events import KILL

ID, SANDBOX, OTHER = "1" * 64, "2" * 64, "3" * 64
UID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
OTHER_UID = "1b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
POD = f"/kubepods/burstable/pod{UID}"
SLICE = f"/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice"
TASKS: Final = "run/containerd/io.containerd.runtime.v2.task/k8s.io"
OVERLAY: Final = "run/containers/storage/overlay-containers"
OF_CONTAINERD: Final = {
    "io.kubernetes.cri.container-type": "sandbox",
    "io.kubernetes.cri.sandbox-name": "shop-7d",
    "io.kubernetes.cri.sandbox-namespace": "prod",
    "io.kubernetes.cri.sandbox-uid": UID,
}
OF_CRI_O: Final = {
    "io.kubernetes.cri-o.ContainerType": "sandbox",
    "io.kubernetes.pod.name": "shop-7d",
    "io.kubernetes.pod.namespace": "prod",
    "io.kubernetes.pod.uid": UID,
}


RECORDS = Path(__file__).parents[1] / "data/containerd/meta.db.xz"
RECORDED = "b4b74a3bb71f1ad655a342827037199ef5f1bee88d13acf2eec6932d9b685c05"
IMAGE_ID = "sha256:1303582991910dc914125a1eb335287b2953a284f1e24fdfcf7e5717c5d4f280"


class Node:
    """The files of a node, as an agent in a pod reaches them: by the root directory of init."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.root = folder / "proc", folder / "root"
        self.root.mkdir()
        (make_process(self.proc, 1, 0, "init") / "root").unlink()
        (self.proc / "1/root").symlink_to(self.root)
        make_process(self.proc, "self", 0, "agent", other="mnt")
        self.lookup = ContainerLookup(frozenset({"app"}), self.proc)

    def add_bundle(
        self,
        cgroup: str,
        annotations: Mapping[str, str] = OF_CONTAINERD,
        container_id: str = SANDBOX,
        tasks: str = TASKS,
    ) -> None:
        folder = self.root / tasks / container_id
        folder = folder / "userdata" if tasks.endswith("-containers") else folder
        folder.mkdir(parents=True)
        config = {"annotations": annotations, "linux": {"cgroupsPath": cgroup}}
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def add_log(
        self, name: str = f"shop-7d_prod_web-{ID}", uid: str = UID, file: str = "web/4.log"
    ) -> None:
        folder = self.root / "var/log/containers"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.log").symlink_to(f"/var/log/pods/prod_shop-7d_{uid}/{file}")

    def add_records(self, folder: str = "var/lib/containerd") -> None:
        """Add the database of a real containerd."""
        database = self.root / folder / "io.containerd.metadata.v1.bolt/meta.db"
        database.parent.mkdir(parents=True)
        database.write_bytes(lzma.decompress(RECORDS.read_bytes()))

    def find_late(self, cgroup: str) -> tuple[Container | None, Pod | None]:
        """Return the container and the pod of a kill that an earlier start did not see."""
        event = replace(KILL, memcg=Memcg(1, cgroup), trigger=None)
        PodSearch(self.lookup, self.proc).read_pods(event)
        container = self.lookup.resolve(event, processes=False).victim
        return container, find_pod(cgroup, container.annotations if container else {})


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize("runtime", ["containerd", "cri-o"])
@pytest.mark.parametrize(
    ("pod", "cgroups_path"),
    [
        (POD, f"{POD}/{{}}"),
        (f"/nodes/one{POD}", f"/nodes/one{POD}/{{}}"),
        (SLICE, f"kubepods-pod{UID.replace('-', '_')}.slice:cri-containerd:{{}}"),
    ],
    ids=["cgroupfs", "cgroup root", "systemd"],
)
def test_sandbox_and_log_name_a_container_without_a_bundle(
    runtime: str, pod: str, cgroups_path: str, node: Node
) -> None:
    """CRI-O has a name of its own for a container, which its log has not."""
    if runtime == "containerd":
        node.add_bundle(cgroups_path.format(SANDBOX))
    else:
        node.add_bundle(cgroups_path.format(SANDBOX), OF_CRI_O, tasks=OVERLAY)
    node.add_log()
    scope = f"cri-containerd-{ID}.scope" if pod == SLICE else ID
    container, found = node.find_late(f"{pod}/{scope}")
    assert container is not None
    assert (container.id, container.runtime) == (ID, runtime)
    assert container.name == ("web" if runtime == "containerd" else None)
    assert container.error == "its bundle is gone, and with it the name of its image"
    assert found is not None
    assert (found.name, found.namespace, found.uid) == ("shop-7d", "prod", UID)
    assert (found.container, found.restart_count) == ("web", 4)


def test_each_of_the_two_names_what_it_has(node: Node) -> None:
    node.add_log()
    container, by_log = node.find_late(f"{POD}/{ID}")
    assert container is not None
    assert container.name is None, "the runtime is not known"
    assert by_log is not None
    assert (by_log.name, by_log.namespace, by_log.container) == ("shop-7d", "prod", "web")
    node.add_bundle(f"{POD}/{SANDBOX}")
    _, by_sandbox = node.find_late(f"{POD}/{OTHER}")
    assert by_sandbox is not None
    assert (by_sandbox.name, by_sandbox.container) == ("shop-7d", None)


@pytest.mark.parametrize(("folders", "name"), [(["web"], "web"), (["web", "init"], None)])
def test_an_earlier_container_has_the_only_name_in_its_pod(
    folders: list[str], name: str | None, node: Node
) -> None:
    """The kubelet has removed its link, but keeps the folders of logs."""
    node.add_bundle(f"{POD}/{SANDBOX}")
    node.add_log(f"shop-7d_prod_web-{OTHER}")
    for folder in folders:
        (node.root / f"var/log/pods/prod_shop-7d_{UID}" / folder).mkdir(parents=True)
    container, pod = node.find_late(f"{POD}/{ID}")
    assert container is not None
    assert container.name == name
    assert pod is not None
    assert (pod.container, pod.restart_count) == (name, None)


@pytest.mark.parametrize(
    ("name", "uid", "file"),
    [
        (f"shop-7d_prod_web-{ID}", OTHER_UID, "web/0.log"),
        (f"shop-7d_prod_web-{OTHER}", UID, "web/0.log"),
        (f"shop-7d_prod_web-{ID}", UID, "other/0.log"),
        (f"shop-7d_other_web-{ID}", UID, "web/0.log"),
        (f"shop-7d_prod_web-{ID}", UID, "web/0.log.20261128"),
        (f"shop-7d_web-{ID}", UID, "web/0.log"),
    ],
)
def test_a_log_counts_if_all_its_names_fit(name: str, uid: str, file: str, node: Node) -> None:
    """With the UID in the cgroup's path, too."""
    node.add_log(name, uid, file)
    container, pod = node.find_late(f"{POD}/{ID}")
    assert container == Container(ID, error="not found in the files of any runtime")
    assert pod == Pod(uid=UID, qos_class="Burstable")


@pytest.mark.parametrize(
    "cgroup",
    [
        f"/user.slice/user-1000.slice{POD}/{ID}",
        f"/system.slice/web.service{POD}/{ID}",
        # A cgroup that a container made below its own.
        f"/nodes/one{POD}/{OTHER}/{ID}",
        f"/nodes/one{POD}/{OTHER}{POD}/{ID}",
        f"{POD}/{OTHER}/{ID}",
        f"{POD}/{OTHER}{POD}/{ID}",
    ],
)
def test_no_cgroup_elsewhere_is_a_pods(cgroup: str, node: Node) -> None:
    """Its owner can choose the names of a pod and its container, which the log has as well."""
    node.add_bundle(f"/nodes/one{POD}/{SANDBOX}")
    node.add_log()
    container, _ = node.find_late(cgroup)
    named = container is not None and container.id == ID and container.annotations
    assert not named


def test_a_container_in_a_container_has_no_log_of_the_host(node: Node) -> None:
    node.add_log()
    container, _ = node.find_late(f"/docker/{OTHER}{POD}/{ID}")
    assert container is not None
    assert container.annotations == {}


def test_containerds_restarts_are_those_of_the_log(node: Node) -> None:
    of_container = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "web",
    }
    node.add_bundle(f"{POD}/{ID}", OF_CONTAINERD | of_container, ID)
    container, pod = node.find_late(f"{POD}/{ID}")
    assert container is not None
    assert (container.error, pod and pod.restart_count) == (None, None)
    node.add_log(uid=OTHER_UID)
    assert node.lookup.records.add_details(container) == container
    (node.root / f"var/log/containers/shop-7d_prod_web-{ID}.log").unlink()
    node.add_log(file="web/12.log")
    counted = find_pod("", node.lookup.records.add_details(container).annotations)
    assert counted is not None
    assert counted.restart_count == 12


def test_annotations_of_a_pods_author_are_not_those_of_another_runtime() -> None:
    """CRI-O copies them to its own."""
    annotations = {
        **OF_CRI_O,
        **OF_CONTAINERD,
        "io.kubernetes.cri.sandbox-name": "coredns-0",
        "io.kubernetes.cri.container-name": "coredns",
        "io.kubernetes.cri.sandbox-uid": OTHER_UID,
        "io.kubernetes.container.name": "web",
    }
    container = cri.container_from_annotations(ID, annotations, {})
    pod = find_pod(f"/nodes{POD}/{ID}", container.annotations)
    assert pod is not None
    assert (pod.name, pod.container, pod.uid) == ("shop-7d", "web", UID)


def test_a_kill_as_the_agent_starts_gets_its_names_at_the_delivery(node: Node) -> None:
    """At the kill neither the bundle was there any more, nor were the pods read."""
    service = ContainerService(proc=node.proc)
    event = replace(KILL, memcg=Memcg(1, f"{POD}/{ID}"), trigger=None)
    bare = EventContainers(Container(ID, error=NOT_FOUND))
    node.add_bundle(f"{POD}/{SANDBOX}")
    container = service.resolve_deferred(event, bare).victim
    assert container is not None
    pod = find_pod("", container.annotations)
    assert pod is not None
    assert (pod.name, pod.namespace, pod.uid) == ("shop-7d", "prod", UID)
    # What timed out is read by the service's own thread alone: it may hang again.
    late = EventContainers(Container(ID, error=TIMED_OUT))
    assert ContainerService(proc=node.proc).resolve_deferred(event, late) == late


@pytest.mark.root
def test_containerds_record_describes_a_container_without_a_bundle(node: Node) -> None:
    """As ``crictl inspect`` did; in the record's own cgroup only."""
    node.add_records()
    cgroup = f"{POD}/{RECORDED}"
    container, pod = node.find_late(cgroup)
    assert container is not None
    assert (container.name, container.image, container.image_id, container.error) == (
        *("web", "localhost/otel-oom-test:1.2", IMAGE_ID),
        None,
    )
    assert pod is not None
    assert (pod.name, pod.namespace, pod.container) == ("shop-7d", "prod", "web")
    assert (pod.uid, pod.restart_count) == (UID, 0)
    elsewhere, _ = node.find_late(cgroup.replace(UID, OTHER_UID))
    assert elsewhere == Container(RECORDED, error="its runtime's files name another cgroup")


@pytest.mark.root
@pytest.mark.parametrize("folder", ["var/lib/containerd", "data/root"])
def test_a_running_container_has_the_id_of_its_image(folder: str, node: Node) -> None:
    """Its bundle has none, but leads to the root directory of its containerd."""
    node.add_records(folder)
    annotations = {
        **OF_CONTAINERD,
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "web",
        "io.kubernetes.cri.sandbox-id": SANDBOX,
    }
    node.add_bundle(f"{POD}/{RECORDED}", annotations, RECORDED)
    config = node.root / TASKS / RECORDED / "config.json"
    bundle = json.loads(config.read_text(encoding="utf-8"))
    source = f"/{folder}/io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}/resolv.conf"
    bundle["mounts"] = [{"destination": "/etc/resolv.conf", "source": source}]
    config.write_text(json.dumps(bundle), encoding="utf-8")
    container, _ = node.find_late(f"{POD}/{RECORDED}")
    assert container is not None
    assert container.image_id is None
    detailed = node.lookup.records.add_details(container)
    assert detailed.image_id == IMAGE_ID
    counted = find_pod("", detailed.annotations)
    assert counted is not None
    assert (counted.container, counted.restart_count) == ("web", 0)


@pytest.mark.root
def test_a_database_of_another_user_is_not_read(node: Node) -> None:
    node.add_records()
    os.chown(node.root / "var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db", 65534, 0)
    assert node.lookup.records.read_bundle(RECORDED) is None
