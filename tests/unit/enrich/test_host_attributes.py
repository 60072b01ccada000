"""Resource attributes of the host."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from otel_oom.enrich.host_attributes import host_attributes


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
