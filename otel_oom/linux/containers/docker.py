"""Docker: the daemon's own file of a container, ``<data root>/containers/<id>/config.v2.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from otel_oom.linux.containers.json_file import as_object, as_text, read_json, select_texts
from otel_oom.model.snapshot import Container


def find_container_dir(container_id: str, config: Mapping[str, Any]) -> Path | None:
    """Return the daemon's directory of a container, as the source of mounts in its bundle."""
    mounts = config.get("mounts")
    for mount in mounts if isinstance(mounts, list) else ():
        # Such as <data root>/containers/<id>/hosts.
        source = Path(as_text(as_object(mount).get("source")) or "/")
        if source.parent.name == container_id and source.parent.parent.name == "containers":
            return source.parent
    return None


def read_container(
    container_id: str, root: Path, folder: Path, labels: frozenset[str]
) -> Container:
    """Read the container from the daemon's directory, which is below ``root``."""
    fields = as_object(read_json(root, folder / "config.v2.json"))
    return add_fields(Container(container_id, "docker"), fields, labels)


def add_fields(
    container: Container, fields: Mapping[str, Any], labels: frozenset[str]
) -> Container:
    """Add the fields that the daemon's file and its API have in common."""
    config = as_object(fields.get("Config"))
    name = (as_text(fields.get("Name")) or "").removeprefix("/") or None
    return replace(
        container,
        name=container.name or name,
        image=container.image or as_text(config.get("Image")),
        image_id=container.image_id or as_text(fields.get("Image")),
        labels=select_texts(config.get("Labels"), labels),
    )
