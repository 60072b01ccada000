"""podman: its storage's list of containers, beside the bundles.

containers/storage ``containers.go``: ``<driver>-containers/containers.json`` in the storage's
graph root, and ``volatile-containers.json`` in its run root for containers that a reboot may
forget. libpod puts the names of container and image into an entry's ``metadata``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.json_file import bound_text, parse_json
from otel_oom.model.snapshot import Container

LISTS: Final = ("containers.json", "volatile-containers.json")
MANAGER: Final = "libpod"
"""The value of the bundle's annotation ``io.container.manager``."""


class _Entry(Struct, frozen=True):
    """An entry of a list; ``metadata`` is JSON as a string."""

    id: str
    image: str | None = None
    metadata: str = ""


class _Metadata(Struct, frozen=True, rename="kebab"):
    name: str | None = None
    image_name: str | None = None
    image_id: str | None = None


def read_container(container_id: str, bundle_dir: BundleDir, folders: Iterable[Path]) -> Container:
    """Read the container from the lists in ``folders``, in the root of ``bundle_dir``.

    The first list that has it counts.
    """
    for folder in folders:
        for name in LISTS:
            for entry in bundle_dir.read_json(folder / name, list[_Entry]) or ():
                if entry.id == container_id:
                    return _container(entry)
    return Container(container_id, "podman")


def _container(entry: _Entry) -> Container:
    metadata = parse_json(entry.metadata, _Metadata) or _Metadata()
    return Container(
        entry.id,
        "podman",
        name=bound_text(metadata.name),
        image=bound_text(metadata.image_name),
        image_id=bound_text(entry.image or metadata.image_id),
    )
