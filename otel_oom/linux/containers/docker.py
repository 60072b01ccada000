"""Docker: the daemon's own file of a container, ``<data root>/containers/<id>/config.v2.json``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec import Raw, Struct
from msgspec.structs import replace

from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.json_file import NULL, bound_text, parse_json, select_texts
from otel_oom.linux.start_settings import select_start_settings
from otel_oom.model.snapshot import Container
from otel_oom.model.start_settings import CONTAINER, StartSettings


class ContainerConfig(Struct, frozen=True, rename="pascal"):
    """``Config`` of a container; ``labels`` is a JSON object, ``env`` a list."""

    image: str | None = None
    labels: Raw = NULL
    env: Raw = NULL


class DockerContainer(Struct, frozen=True, rename="pascal"):
    """The fields that the daemon's file and its API have in common; ``image`` is an id."""

    name: str | None = None
    image: str | None = None
    path: str = ""
    args: Raw = NULL
    config: ContainerConfig = ContainerConfig()


def find_container_dir(container_id: str, mount_sources: Iterable[str]) -> Path | None:
    """Return the daemon's directory of a container, as the source of mounts in its bundle."""
    for text in mount_sources:
        # Such as <data root>/containers/<id>/hosts.
        source = Path(bound_text(text) or "/")
        if source.parent.name == container_id and source.parent.parent.name == "containers":
            return source.parent
    return None


def read_container(
    container_id: str, bundle_dir: BundleDir, folder: Path, labels: frozenset[str]
) -> Container:
    """Read the container from the daemon's directory, which is in the root of ``bundle_dir``."""
    details = bundle_dir.read_json(folder / "config.v2.json", DockerContainer)
    return add_fields(Container(container_id, "docker"), details or DockerContainer(), labels)


def add_fields(container: Container, details: DockerContainer, labels: frozenset[str]) -> Container:
    """Add what the daemon's file or its API have of a container."""
    return replace(
        container,
        name=container.name or bound_text((details.name or "").removeprefix("/")),
        image=container.image or bound_text(details.config.image),
        image_id=container.image_id or bound_text(details.image),
        labels=select_texts(details.config.labels, labels),
        start=container.start or _select_start(details),
    )


def _select_start(details: DockerContainer) -> StartSettings | None:
    environ = parse_json(details.config.env, list[str])
    if environ is None:
        return None
    arguments = parse_json(details.args, list[str]) or []
    return select_start_settings(CONTAINER, [details.path, *arguments], environ)
