"""Bytes as the ``config.json`` of a container's bundle, and of its pod's sandbox."""

from __future__ import annotations

from typing import Final

from otel_oom.linux.containers.oci_bundle import read_bundle
from tests.fuzz.targets.container_files import (
    CONTAINER_ID,
    LABELS,
    SANDBOX_ID,
    ContainerRoot,
    check_container,
)

_FILES: Final = ContainerRoot()
_FILES.write(
    f"var/lib/docker/containers/{CONTAINER_ID}/config.v2.json",
    {"Name": "/web", "Config": {"Image": "nginx", "Labels": {"team": "a"}}},
)
_FILES.write(
    "run/overlay-containers/containers.json",
    b'[{"id": "' + CONTAINER_ID.encode() + b'", "names": ["web"]}]',
)


def check_input(data: bytes) -> None:
    """Read the container from such a bundle."""
    for container_id in (CONTAINER_ID, SANDBOX_ID):
        _FILES.write(f"run/overlay-containers/{container_id}/config.json", data)
    bundle = read_bundle(CONTAINER_ID, _FILES.bundle_dir, LABELS)
    if bundle is not None:
        assert bundle.container.id == CONTAINER_ID
        check_container(bundle.container)
        for whole in (False, True):
            assert not bundle.fits("/user.slice", whole=whole) or bundle.cgroups_path
