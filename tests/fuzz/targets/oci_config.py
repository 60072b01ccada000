"""Bytes as the ``config.json`` of a container's bundle, and of its pod's sandbox."""

from __future__ import annotations

from typing import Final

from otel_oom.linux.containers.cri import KEYS
from otel_oom.linux.containers.oci_bundle import read_bundle
from tests.fuzz.targets.container_files import (
    CONTAINER_ID,
    LABELS,
    SANDBOX_ID,
    ContainerRoot,
    check_container,
)
from tests.fuzz.targets.json_value import build_json

_FILES: Final = ContainerRoot()
_FILES.write(
    f"var/lib/docker/containers/{CONTAINER_ID}/config.v2.json",
    {"Name": "/web", "Config": {"Image": "nginx", "Labels": {"team": "a"}}},
)
_FILES.write(
    "run/overlay-containers/containers.json",
    b'[{"id": "' + CONTAINER_ID.encode() + b'", "names": ["web"]}]',
)


_WORDS: Final = (
    *("annotations", "mounts", "source", "destination", "linux", "cgroupsPath", SANDBOX_ID),
    *("io.container.manager", "libpod", "io.kubernetes.cri-o.Labels", *sorted(KEYS), *LABELS),
    f"/var/lib/docker/containers/{CONTAINER_ID}/hosts",
    f"//a/../containers/{CONTAINER_ID}/\0",
)


def check_input(data: bytes) -> None:
    """Read the container from such a bundle, and from one with JSON that is made of the bytes."""
    _check_config(data)
    _check_config(build_json(data, _WORDS))


def _check_config(data: bytes) -> None:
    for container_id in (CONTAINER_ID, SANDBOX_ID):
        _FILES.write(f"run/overlay-containers/{container_id}/config.json", data)
    bundle = read_bundle(CONTAINER_ID, _FILES.bundle_dir, LABELS)
    if bundle is not None:
        assert bundle.container.id == CONTAINER_ID
        check_container(bundle.container)
        for whole in (False, True):
            assert not bundle.fits("/user.slice", whole=whole) or bundle.cgroups_path
