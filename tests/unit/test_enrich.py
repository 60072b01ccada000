"""Whose process it was, out of what the kernel and /proc said."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from otel_oom.enrich import shared_resource
from otel_oom.enrich.container import Container, container_of
from otel_oom.enrich.host import host_attributes
from otel_oom.enrich.service import service_name
from tests.support.samples import CONTAINER_ID as ID
from tests.support.samples import HOST, enriched

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
def test_the_container_is_in_the_path(path: str, runtime: str | None) -> None:
    """Each runtime's and cgroup driver's form of path gives its, innermost, container."""
    assert container_of(path) == Container(ID, runtime)


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
def test_other_paths_name_no_container(path: str) -> None:
    """A runtime's monitor, a session or a mere likeness is no container."""
    assert container_of(path) is None


@pytest.mark.parametrize(
    ("path", "container", "executable", "name"),
    [
        ("/system.slice/nginx.service", None, "/usr/sbin/nginx", "nginx"),
        ("/system.slice/system-getty.slice/getty@tty1.service", None, "/x", "getty@tty1"),
        ("/user.slice/user@1000.service/app.slice/web.service", None, "/x", "web"),
        ("/user.slice/user@1000.service/session.slice/x.scope", None, "/bin/tool", "tool"),
        (f"/system.slice/containerd.service/{ID}", Container(ID, None), "/usr/bin/java", "java"),
        ("/", None, None, "comm"),
    ],
)
def test_the_service_is_the_unit_or_the_program(
    path: str, container: Container | None, executable: str | None, name: str
) -> None:
    """The victim's own unit, never its user's manager's or its runtime's; else its program."""
    assert service_name(path, container, executable, "comm") == name


def test_no_name_at_all_is_said_as_opentelemetry_says_it() -> None:
    """Where nothing is known the service is ``unknown_service``."""
    assert service_name("/", None, None, None) == "unknown_service"


def test_the_host_is_this_one() -> None:
    """Name and id are what the host itself says; the architecture is in OpenTelemetry's words."""
    attributes = host_attributes()
    assert attributes["host.name"] == socket.gethostname()
    assert attributes["os.type"] == "linux"
    machine_id = Path("/etc/machine-id")
    if machine_id.exists():
        assert attributes["host.id"] == machine_id.read_text(encoding="ascii").strip()
    expected = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    assert attributes["host.arch"] == expected


def test_a_bare_host_still_has_a_name(tmp_path: Path) -> None:
    """Where no file of the host can be read, what is not known is absent."""
    attributes = host_attributes(tmp_path)
    assert "host.id" not in attributes
    assert "os.name" not in attributes
    assert attributes["host.name"]


def test_the_agents_own_identity_is_not_the_victims() -> None:
    """The environment's place is kept, and what it says of the agent itself is not."""
    shared = shared_resource(
        HOST,
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


def test_a_kill_gets_its_resource() -> None:
    """Host, container and service stand together, and the agent is nowhere in it."""
    assert dict(enriched().resource) == {
        "host.name": "node-1",
        "container.id": ID,
        "container.runtime.name": "docker",
        "service.name": "java",
    }
