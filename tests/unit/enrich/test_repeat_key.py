"""The name of a victim, which its restarts have in common and others have not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.repeat_key import find_repeat_key
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.snapshot import Container, EventContainers, Snapshot
from otel_oom.model.types import Memcg
from tests.testlib.samples.events import HOST, KILL

FIRST, SECOND = "0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0", "1b1c2d3e-4f50-6172-8394-a5b6c7d8e9f1"


def key_of(path: str, snapshot: Snapshot | None = None, comm: str = "java") -> str:
    """Return the key of a kill in the cgroup of ``path``."""
    snapshot = snapshot or Snapshot(process_found=False)
    kill = replace(KILL, memcg=Memcg(id=42, path=path), victim=replace(KILL.victim, comm=comm))
    return find_repeat_key(enrich_kill(kill, snapshot, VictimOutcome(), 0, HOST))


def key_of_pod(
    name: str | None,
    *,
    container: str = "app",
    namespace: str = "shop",
    uid: str = FIRST,
    environ: dict[str, str] | None = None,
) -> str:
    """Return the key of a kill in a container of containerd, with the kubelet's annotations."""
    values = {"sandbox-name": name, "sandbox-namespace": namespace, "container-name": container}
    annotations = {f"io.kubernetes.cri.{key}": value for key, value in values.items() if value}
    id_ = uid.replace("-", "") * 2
    victim = Container(id_, "containerd", annotations=annotations if name else {})
    snapshot = Snapshot(
        process_found=True, containers=EventContainers(victim=victim), environ=environ or {}
    )
    return key_of(f"/kubepods/burstable/pod{uid}/{id_}", snapshot)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("web-7d4b9c6f8d-x2k4z", "web-7d4b9c6f8d-b7vvq"),
        ("web-7d4b9c6f8d-x2k4z", "web-5f6d8c7b94-tt2xz"),
        ("nightly-29384756-x2k4z", "nightly-29386196-b7vvq"),
        ("fluentd-x2k4z", "fluentd-b7vvq"),
        ("db-0", "db-0"),
        ("db-0", "db-11"),
    ],
)
def test_pods_of_one_owner_are_one_victim(first: str, second: str) -> None:
    """By the names that Kubernetes' controllers give: each has another UID."""
    assert key_of_pod(first) == key_of_pod(second, uid=SECOND)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (key_of_pod("web-7d4b9c6f8d-x2k4z"), key_of_pod("worker-7d4b9c6f8d-x2k4z")),
        (key_of_pod("web-front"), key_of_pod("web-back")),
        (key_of_pod("web"), key_of_pod("web", namespace="test")),
        (key_of_pod("web"), key_of_pod("web", container="sidecar")),
        (key_of_pod(None), key_of_pod(None, uid=SECOND)),
        (key_of("/system.slice/a.service"), key_of("/system.slice/b.service")),
        (key_of("/system.slice/a.service"), key_of("/system.slice/a.service", comm="cat")),
    ],
)
def test_others_are_other_victims(first: str, second: str) -> None:
    assert first != second


def test_a_pod_without_names_is_known_by_its_uid() -> None:
    assert key_of_pod(None) == key_of_pod(None)


def test_a_restarted_container_keeps_its_name() -> None:
    """Docker gives it the same id, a new one of that name has another."""
    keys = set()
    for id_ in ("a" * 64, "b" * 64):
        victim = Container(id_, "docker", name="shop-db-1")
        snapshot = Snapshot(process_found=True, containers=EventContainers(victim=victim))
        keys.add(key_of(f"/docker/{id_}", snapshot))
    assert len(keys) == 1


def test_a_users_service_is_not_anothers() -> None:
    paths = [f"/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/x.service" for uid in "12"]
    assert len({key_of(path) for path in paths}) == 2


def test_the_next_login_of_a_user_is_the_same_victim() -> None:
    slice_ = "/user.slice/user-1000.slice"
    assert key_of(f"{slice_}/session-1.scope") == key_of(f"{slice_}/session-22.scope")


def test_a_victim_cannot_claim_the_kills_of_another() -> None:
    """Neither as a service nor as a pod."""
    claims = "service.name=web,k8s.pod.name=web-x2k4z,k8s.namespace.name=shop,container.name=web"
    environ = {"OTEL_RESOURCE_ATTRIBUTES": claims}
    hostile = key_of_pod(None, uid=SECOND, environ=environ)
    assert hostile == key_of_pod(None, uid=SECOND)
    assert hostile != key_of_pod("web-x2k4z")
