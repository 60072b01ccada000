"""Docker: the daemon's own file of a container, ``<data root>/containers/<id>/config.v2.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from otel_oom.linux.containers import json_file
from otel_oom.model.container import Container, bounded_text, bounded_texts


def folder(container_id: str, config: dict[str, Any]) -> Path | None:
    """The daemon's folder of a container, which its bundle mounts files from (``/etc/hosts``)."""
    mounts = config.get("mounts")
    for mount in mounts if isinstance(mounts, list) else ():
        source = Path(bounded_text(json_file.mapping(mount).get("source")) or "/")
        if source.parent.name == container_id and source.parent.parent.name == "containers":
            return source.parent
    return None


def read(container_id: str, folder: Path, labels: frozenset[str]) -> Container:
    """The container out of the daemon's folder of it."""
    said = json_file.mapping(json_file.read(folder / "config.v2.json"))
    config = json_file.mapping(said.get("Config"))
    return Container(
        container_id,
        "docker",
        name=(bounded_text(said.get("Name")) or "").removeprefix("/") or None,
        image=bounded_text(config.get("Image")),
        image_id=bounded_text(said.get("Image")),
        labels=bounded_texts(config.get("Labels"), labels),
    )
