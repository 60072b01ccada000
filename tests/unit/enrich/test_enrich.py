"""Whose process it was, out of what the kernel and /proc said."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.enrich.cgroup_path import finest_cgroup_path
from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.host import host_resource
from otel_oom.enrich.host_attributes import host_attributes
from otel_oom.enrich.types import VictimOutcome
from otel_oom.linux.containers.cgroup_id import ContainerId, find_container_id
from otel_oom.model.types import Memcg, OomTask, TaskList
from tests.testlib.samples.events import CONTAINER_ID as ID
from tests.testlib.samples.events import (
    HOST,
    HOST_ATTRIBUTES,
    KILL,
    SNAPSHOT,
    roundtrip,
    sample_enriched_kill,
)

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


def test_host_attributes_are_those_of_this_host() -> None:
    attributes = host_attributes()
    assert attributes["host.name"] == socket.gethostname()
    assert attributes["os.type"] == "linux"
    machine_id = Path("/etc/machine-id")
    if machine_id.exists():
        assert attributes["host.id"] == machine_id.read_text(encoding="ascii").strip()
    expected = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    assert attributes["host.arch"] == expected


def test_host_without_files_has_a_name(tmp_path: Path) -> None:
    attributes = host_attributes(tmp_path)
    assert "host.id" not in attributes
    assert "os.name" not in attributes
    assert attributes["host.name"]


def test_agent_attributes_are_not_the_hosts() -> None:
    shared = host_resource(
        HOST_ATTRIBUTES,
        {
            "deployment.environment.name": "prod",
            "service.name": "otel-oom",
            "process.pid": "1",
            "host.name": "node-of-the-user",
            "k8s.deployment.name": "agents",
            "k8s.pod.name": "the-agents-pod",
            "k8s.cluster.name": "blue",
            "k8s.node.name": "node-1",
        },
    )
    assert shared == {
        "host.name": "node-of-the-user",
        "deployment.environment.name": "prod",
        "k8s.cluster.name": "blue",
        "k8s.node.name": "node-1",
    }


def test_resource_has_host_container_and_service() -> None:
    assert dict(sample_enriched_kill().resource) == {
        "host.name": "node-1",
        "container.id": ID,
        "container.runtime.name": "docker",
        "service.name": "java",
    }


def test_known_attributes_precede_those_of_the_victim() -> None:
    """The victim names its service and its environment, not its host, container or pod."""
    environ = {
        "OTEL_SERVICE_NAME": "checkout",
        "OTEL_RESOURCE_ATTRIBUTES": (
            "service.version=2,deployment.environment.name=staging,host.name=evil,"
            "container.id=evil,k8s.pod.uid=evil,k8s.pod.name=checkout-x2k4z,secret=hunter2"
        ),
    }
    memcg = Memcg(id=42, path=f"/kubepods/burstable/{POD}/{ID}")
    host = replace(HOST, attributes={**HOST_ATTRIBUTES, "deployment.environment.name": "prod"})
    found = enrich_kill(
        replace(KILL, memcg=memcg),
        replace(SNAPSHOT, environ=environ),
        VictimOutcome(),
        KILL.time_unix_ns,
        host,
    )
    assert dict(found.resource) == {
        "host.name": "node-1",
        "deployment.environment.name": "staging",
        "container.id": ID,
        "k8s.pod.uid": POD.removeprefix("pod"),
        "k8s.pod.name": "checkout-x2k4z",
        "service.name": "checkout",
        "service.version": "2",
    }


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/system.slice/nginx.service", "nginx"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", "web"),
        (f"/system.slice/containerd.service/{ID}", "java"),
        (f"/machine.slice/libpod-{ID}.scope/container/system.slice/nginx.service", "nginx"),
        (f"/docker/{ID}/system.slice/nginx.service", "nginx"),
    ],
)
def test_unit_names_the_service(path: str, service: str) -> None:
    """Inside a container, only a unit of the systemd that runs in it."""
    assert sample_enriched_kill(memcg=Memcg(id=42, path=path)).resource["service.name"] == service


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


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/web.service", "web.service"),
        ("/shop.slice", "shop.slice"),
        ("/user.slice/user-1000.slice/user@1000.service", "user@1000.service"),
        # Their files are in that user's home, and not the host's of the same name.
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice", None),
        ("/system.slice/web.service/worker", None),
        ("/docker/0123", None),
    ],
)
def test_limit_setting_is_that_of_the_system_unit_with_the_limit(
    monkeypatch: pytest.MonkeyPatch, path: str, unit: str | None
) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr("otel_oom.enrich.event.find_memory_setting", lambda *it: asked.append(it))
    assert KILL.decision
    sample_enriched_kill(decision=replace(KILL.decision, memcg=Memcg(id=41, path=path)))
    assert asked == ([(unit, 64 << 20)] if unit else [])


def test_kernel_report_of_the_snapshot_joins_the_kill() -> None:
    """Unless the kill has one of its own."""
    listed = TaskList("/a", KILL.boottime_ns, 1, 0, (OomTask(7, "listed", 4096, 0, 0),))
    witness = replace(SNAPSHOT, kernel_report="the report", kernel_report_tasks=listed)
    seen = enrich_kill(KILL, roundtrip(witness), VictimOutcome(None), 0, HOST)
    assert seen.event.original == "the report"
    assert seen.snapshot.tasks is not None
    assert [one.comm for one in seen.snapshot.tasks.largest] == ["listed"]
    own = enrich_kill(replace(KILL, original="its own"), witness, VictimOutcome(None), 0, HOST)
    assert own.event.original == "its own"
