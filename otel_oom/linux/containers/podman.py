"""podman: its storage's list of containers, beside the bundles.

containers/storage ``containers.go``: ``<driver>-containers/containers.json`` in the storage's
graph root, and ``volatile-containers.json`` in its run root for containers that a reboot may
forget. libpod puts the names of container and image into an entry's ``metadata``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from otel_oom.linux.containers.json_file import as_object, as_text, parse_json, read_json
from otel_oom.model.snapshot import Container

LISTS: Final = ("containers.json", "volatile-containers.json")
MANAGER: Final = "libpod"
"""The value of the bundle's annotation ``io.container.manager``."""


def read_container(container_id: str, root: Path, folders: Iterable[Path]) -> Container:
    """Read the container from the lists in ``folders``, which are below ``root``.

    The first list that has it counts.
    """
    for folder in folders:
        for name in LISTS:
            listed = read_json(root, folder / name)
            for entry in listed if isinstance(listed, list) else ():
                if as_object(entry).get("id") == container_id:
                    return _container(container_id, entry)
    return Container(container_id, "podman")


def _container(container_id: str, entry: dict[str, Any]) -> Container:
    metadata = as_object(parse_json(entry.get("metadata")))
    names = entry.get("names")
    name = as_text(names[0]) if isinstance(names, list) and names else None
    return Container(
        container_id,
        "podman",
        name=as_text(metadata.get("name")) or name,
        image=as_text(metadata.get("image-name")),
        image_id=as_text(entry.get("image")) or as_text(metadata.get("image-id")),
    )
