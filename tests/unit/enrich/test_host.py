"""Attributes that the events of a host share."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from otel_oom.enrich.host import host_attributes, host_resource
from tests.testlib.samples.events import (
    HOST_ATTRIBUTES,
)


def test_agent_attributes_are_not_the_hosts() -> None:
    resource = host_resource(
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
    assert resource == {
        "host.name": "node-of-the-user",
        "deployment.environment.name": "prod",
        "k8s.cluster.name": "blue",
        "k8s.node.name": "node-1",
    }


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
