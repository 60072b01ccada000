"""Advice names the limit as its reader can change it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.enrich.advice import decide_cause
from otel_oom.enrich.advice.limit_owner import find_limit_owner
from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.types import EnrichedKill, VictimOutcome
from otel_oom.linux.systemd.unit_files import UnitSetting
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, MemcgUsage, OomTask, TaskList
from tests.testlib.samples.events import DECISION, HOST, KILL, SNAPSHOT

MIB = 1 << 20
ID, PROXY, OUTER = "1" * 64, "2" * 64, "3" * 64
UID = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
UID_ = UID.replace("-", "_")
POD = f"/kubepods/burstable/pod{UID}"
SLICE = (
    "/kubepods.slice/kubepods-burstable.slice"
    f"/kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope"
)
WEB = "resources.limits.memory of container web of pod shop-7d in namespace prod"
FIRST = (
    " The cgroup of the pod was full before that of the container: its limit is the sum over the "
    "containers, unless the pod sets one."
)


def in_pod(container_id: str = ID, name: str | None = "web", uid: str = UID) -> Container:
    """Return a container as its bundle describes it; without its name if the bundle is gone."""
    names = {
        "container-name": name,
        "sandbox-name": "shop-7d",
        "sandbox-namespace": "prod",
        "sandbox-uid": uid,
    }
    annotations = {f"io.kubernetes.cri.{key}": value for key, value in names.items() if value}
    return Container(container_id, "containerd", name=name, annotations=annotations)


def kill_at(
    hit: str | None,
    own: str,
    containers: EventContainers,
    others: Mapping[str, int] = {},
    environ: Mapping[str, str] = {},
) -> EnrichedKill:
    """Return a kill of a process of 54 MiB at a limit of 64 MiB, with others' sizes by cgroup."""
    tasks = tuple(
        OomTask(number, "other", size, 0, 0, 0, 0, path)
        for number, (path, size) in enumerate(others.items(), 7)
    )
    kill = replace(
        KILL,
        memcg=Memcg(None, own),
        tasks=TaskList(hit, 0, len(tasks) + 1, 0, tasks),
        decision=replace(
            DECISION,
            memcg=Memcg(None, hit) if hit else None,
            memcg_usage=MemcgUsage(64 * MIB, 64 * MIB, None, None) if hit else None,
        ),
    )
    snapshot = replace(SNAPSHOT, containers=containers, limit_cgroup=None, environ=environ)
    return enrich_kill(kill, snapshot, VictimOutcome(), KILL.time_unix_ns, HOST)


CASES = {
    "container of a pod": (f"{POD}/{ID}", f"{POD}/{ID}", in_pod(), WEB),
    "with systemd": (SLICE, SLICE, in_pod(), WEB),
    "cgroup of its own in a container": (f"{POD}/{ID}", f"{POD}/{ID}/a.service", in_pod(), WEB),
    "a container's own limit": (
        f"{POD}/{ID}/a.service",
        f"{POD}/{ID}/a.service",
        in_pod(),
        f"the limit of {POD}/{ID}/a.service",
    ),
    "below a cgroup root": (f"/nodes/one{POD}/{ID}", f"/nodes/one{POD}/{ID}", in_pod(), WEB),
    "pod": (
        POD,
        f"{POD}/{ID}",
        in_pod(),
        "resources.limits.memory of the containers of pod shop-7d in namespace prod",
    ),
    "pod with systemd": (
        SLICE.rpartition("/")[0],
        SLICE,
        in_pod(),
        "resources.limits.memory of the containers of pod shop-7d in namespace prod",
    ),
    "all pods": (
        "/kubepods",
        f"{POD}/{ID}",
        in_pod(),
        "the allocatable memory of the node, which its kubelet sets on /kubepods",
    ),
    "all pods with systemd": (
        "/kubepods.slice",
        SLICE,
        in_pod(),
        "the allocatable memory of the node, which its kubelet sets on /kubepods.slice",
    ),
    "above a cgroup root": ("/nodes", f"/nodes{POD}/{ID}", in_pod(), "the limit of /nodes"),
    "container without a name": (
        f"{POD}/{ID}",
        f"{POD}/{ID}",
        in_pod(name=None),
        "resources.limits.memory of container 111111111111 of pod shop-7d in namespace prod",
    ),
    "pod without a name": (
        POD,
        f"{POD}/{ID}",
        None,
        f"resources.limits.memory of the containers of the pod with UID {UID}",
    ),
    "docker": (
        f"/docker/{ID}",
        f"/docker/{ID}",
        Container(ID, "docker", name="web"),
        "--memory of container web",
    ),
    "podman": (
        f"/machine.slice/libpod-{ID}.scope",
        f"/machine.slice/libpod-{ID}.scope/container",
        Container(ID, "podman", name="web"),
        "--memory of container web",
    ),
    "hostile name": (
        f"/docker/{ID}",
        f"/docker/{ID}",
        Container(ID, "docker", name="web\n of pod x"),
        r'--memory of container "web\n of pod x"',
    ),
    "unit": (
        "/system.slice/web.service",
        "/system.slice/web.service",
        None,
        "MemoryMax= of web.service",
    ),
    "slice": ("/system.slice", "/system.slice/web.service", None, "MemoryMax= of system.slice"),
    "unit of a user": (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app.service",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app.service",
        None,
        "MemoryMax= of app.service",
    ),
    "cgroup": ("/jobs/7", "/jobs/7", None, "the limit of /jobs/7"),
    "cgroup with the name of a pod's": (
        f"/jobs{POD}/{ID}",
        f"/jobs{POD}/{ID}",
        None,
        f"the limit of /jobs{POD}/{ID}",
    ),
}


def advise(kill: EnrichedKill) -> str | None:
    """Return the advice alone."""
    finding = decide_cause(kill)
    return finding.advice if finding else None


@pytest.mark.parametrize(("hit", "own", "container", "expected"), CASES.values(), ids=CASES)
def test_the_limit_to_raise(hit: str, own: str, container: Container | None, expected: str) -> None:
    advice = advise(kill_at(hit, own, EventContainers(container)))
    assert advice is not None
    advice, _, full_first = advice.partition(FIRST)
    assert advice == (
        "java (pid 4711) alone used 54.0 MiB of the limit of 64.0 MiB. Reduce its memory usage, or "
        f"raise {expected} (the host had 4.9 GiB available)."
    )
    assert not full_first


@pytest.mark.parametrize(("hit", "is_pod"), [(POD, True), (f"{POD}/{ID}", False)])
def test_the_advice_says_where_a_pod_was_full_first(hit: str, *, is_pod: bool) -> None:
    """A pod of one container has its limit twice, and more than the container in it."""
    advice = advise(kill_at(hit, f"{POD}/{ID}", EventContainers(in_pod())))
    assert advice is not None
    assert advice.endswith(FIRST) == is_pod


def test_another_container_of_the_pod_is_named() -> None:
    containers = EventContainers(in_pod(), trigger=in_pod(PROXY, "proxy"))
    kill = kill_at(POD, f"{POD}/{ID}", containers, {f"{POD}/{PROXY}": 60 * MIB})
    advice = advise(kill)
    assert advice is not None
    assert advice.startswith(
        "The limit of 64.0 MiB is shared, and container proxy of pod shop-7d in namespace prod "
        "used at least 60.0 MiB of it, more than the victim's cgroup. Give it its own limit "
        "(resources.limits.memory), or a lower one, or raise resources.limits.memory of the "
        "containers of pod shop-7d in namespace prod."
    )


def test_a_trigger_in_another_pod_names_no_pod_of_the_victim() -> None:
    other = in_pod(PROXY, "proxy", "1b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0")
    kill = kill_at(POD, f"{POD}/{ID}", EventContainers(Container(ID), trigger=other))
    owner = str(find_limit_owner(kill, POD))
    assert owner.endswith(f"the containers of the pod with UID {UID}")


def test_a_node_without_memory_is_helped_by_a_limit_of_the_pod() -> None:
    kill = kill_at(None, f"{POD}/{ID}", EventContainers(in_pod()))
    assert kill.snapshot.host is not None
    host = replace(kill.snapshot.host, memory={"total": 100 * MIB, "available": 0})
    kill = replace(kill, snapshot=replace(kill.snapshot, host=host), limit_scope="host")
    advice = advise(kill)
    assert advice is not None
    assert (
        "Give container web of pod shop-7d in namespace prod a limit (resources.limits.memory) "
        "that leaves memory for the rest of the host"
    ) in advice


def test_a_container_in_a_containers_pod_is_told_apart() -> None:
    """Of a node in a container, the node is what its own runtime limits."""
    own = f"/docker/{OUTER}{POD}/{ID}"
    containers = EventContainers(in_pod(), Container(OUTER, "docker", name="kind"))
    owners = {
        hit: str(find_limit_owner(kill_at(hit, own, containers), hit))
        for hit in (f"/docker/{OUTER}", own, f"/docker/{OUTER}{POD}")
    }
    assert list(owners.values()) == [
        "--memory of container kind",
        WEB,
        "resources.limits.memory of the containers of pod shop-7d in namespace prod",
    ]


def test_a_unit_has_the_file_of_its_limit() -> None:
    path = "/system.slice/web.service"
    kill = kill_at(path, path, EventContainers())
    setting = UnitSetting("MemoryLimit=64M", Path("/etc/systemd/system/web.service.d/limit.conf"))
    owner = find_limit_owner(replace(kill, limit_setting=setting), path)
    assert str(owner) == (
        "MemoryLimit= of web.service, set in /etc/systemd/system/web.service.d/limit.conf"
    )


def test_a_claim_of_the_victim_names_no_limit() -> None:
    """Its owner can write any pod's name there."""
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=other,k8s.namespace.name=other"}
    kill = kill_at(POD, f"{POD}/{ID}", EventContainers(), environ=environ)
    assert kill.resource["k8s.pod.name"] == "other"
    assert "other" not in str(find_limit_owner(kill, POD))
