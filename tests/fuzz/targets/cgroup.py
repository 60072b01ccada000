"""Bytes as a ``/proc/PID/cgroup``, and its paths as those of containers, pods and units.

The same bytes are a ``status`` and a ``stat``, which contain the process's own name.
"""

from __future__ import annotations

import re

from otel_oom.enrich.kubernetes import find_pod
from otel_oom.linux.cgroup_holder import find_holder
from otel_oom.linux.containers.cgroup_id import find_container_ids
from otel_oom.linux.containers.cgroups_path import names_cgroup
from otel_oom.linux.process import memory_cgroup_path, parse_cgroups, parse_stat, parse_status
from otel_oom.linux.systemd.units import display_name, find_owning_unit, find_units
from otel_oom.model.text import decode_bytes


def check_input(data: bytes) -> None:
    """Parse the files and check that each value is a part of one line."""
    text = decode_bytes(data)
    lines = text.split("\n")
    entries = parse_cgroups(text)
    assert len(entries) <= len(lines)
    for entry in entries:
        assert f"{entry.hierarchy}:{','.join(entry.controllers)}:{entry.path}" in lines
        _check_path(entry.path)
    path = memory_cgroup_path(text)
    assert path is None or any(path == entry.path for entry in entries)
    _check_path(text)
    parse_status(text)
    parse_stat(text)


def _check_path(path: str) -> None:
    components = path.split("/")
    assert path.startswith(find_holder(path))
    for whole in (False, True):
        names_cgroup(path, f"{path}/x", whole=whole)
    for container in find_container_ids(path):
        assert re.fullmatch(r"[0-9a-f]{64}", container.id)
        assert any(container.id in component for component in components)
        assert f"{path}/".startswith(f"{container.cgroup}/")
        assert not container.scope or container.cgroup.startswith(f"{container.scope}/")
    units = find_units(path)
    for name in (units.unit, units.slice, units.user_unit, find_owning_unit(path)):
        if name is not None:
            assert len(name) <= len(path)
            assert "\n" not in name
            display_name(name)
    pod = find_pod(path, {})
    if pod is not None:
        assert all(len(str(value)) <= len(path) for value in pod.attributes().values())
