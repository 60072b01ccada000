"""podman: its storage's list of containers, beside the bundle.

containers/storage ``containers.go``: ``<driver>-containers/containers.json`` in the storage's
root, and for containers that a reboot may forget ``volatile-containers.json`` in its run root.
libpod puts the names of container and image into the entry's ``metadata``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from otel_oom.linux.containers import json_file
from otel_oom.model.container import Container, bounded_text

LISTS: Final = ("containers.json", "volatile-containers.json")
MANAGER: Final = "libpod"
"""What the bundle's annotation ``io.container.manager`` says."""


def read(container_id: str, folders: Iterable[Path]) -> Container:
    """The container out of the lists in ``folders``, the first that has it."""
    for folder in folders:
        for name in LISTS:
            entry = _entry(container_id, json_file.read(folder / name))
            if entry is not None:
                return _container(container_id, entry)
    return Container(container_id, "podman")


def _entry(container_id: str, listed: object) -> dict[str, Any] | None:
    entries = listed if isinstance(listed, list) else []
    return next((e for e in entries if isinstance(e, dict) and e.get("id") == container_id), None)


def _container(container_id: str, entry: dict[str, Any]) -> Container:
    metadata = entry.get("metadata")
    said = json_file.mapping(json_file.parse(metadata) if isinstance(metadata, str) else None)
    names = entry.get("names")
    return Container(
        container_id,
        "podman",
        name=bounded_text(said.get("name"))
        or (bounded_text(names[0]) if isinstance(names, list) and names else None),
        image=bounded_text(said.get("image-name")),
        image_id=bounded_text(entry.get("image")) or bounded_text(said.get("image-id")),
    )
