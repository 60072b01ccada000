"""Bytes as a runtime's own JSON: Docker's file, podman's list, CRI-O's labels, an API's answer."""

from __future__ import annotations

from typing import Final

from otel_oom.linux.containers.docker import DockerContainer, add_fields
from otel_oom.linux.containers.json_file import parse_json
from otel_oom.linux.containers.oci_bundle import read_bundle
from otel_oom.model.snapshot import Container
from otel_oom.model.text import decode_bytes
from tests.fuzz.targets.container_files import (
    CONTAINER_ID,
    LABELS,
    ContainerRoot,
    check_container,
)
from tests.fuzz.targets.json_value import build_json

_DOCKER_DIR: Final = f"var/lib/docker/containers/{CONTAINER_ID}"
_CONFIG: Final = f"run/overlay-containers/{CONTAINER_ID}/config.json"
_DOCKER: Final = ContainerRoot()
_DOCKER.write(
    _CONFIG, {"mounts": [{"destination": "/etc/hosts", "source": f"/{_DOCKER_DIR}/hosts"}]}
)
_PODMAN: Final = ContainerRoot()
_PODMAN.write(_CONFIG, {"annotations": {"io.container.manager": "libpod"}})
_CRI_O: Final = ContainerRoot()


_WORDS: Final = (
    *("Name", "Image", "Config", "Labels", "Version", "id", "names", "metadata", "image"),
    *("name", "image-name", "image-id", CONTAINER_ID, *LABELS),
)


def check_input(data: bytes) -> None:
    """Read a container of each runtime from such JSON, and from JSON made of the bytes."""
    _check_json(data)
    built = build_json(data, _WORDS)
    _check_json(built)
    _check_json(b"[%s]" % built)


def _check_json(data: bytes) -> None:
    _DOCKER.write(f"{_DOCKER_DIR}/config.v2.json", data)
    _PODMAN.write("run/overlay-containers/containers.json", data)
    labels = {
        "io.kubernetes.cri-o.ContainerType": "x",
        "io.kubernetes.cri-o.Labels": decode_bytes(data),
    }
    _CRI_O.write(_CONFIG, {"annotations": labels})
    for files in (_DOCKER, _PODMAN, _CRI_O):
        bundle = read_bundle(CONTAINER_ID, files.bundle_dir, LABELS)
        assert bundle is not None
        check_container(bundle.container)
    details = parse_json(data, DockerContainer)
    if details is not None:
        check_container(add_fields(Container(CONTAINER_ID), details, LABELS))
