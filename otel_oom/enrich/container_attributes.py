"""A container as resource attributes, by OpenTelemetry's conventions for ``container.*``."""

from __future__ import annotations

import re
from typing import Final

from otel_oom.model.container import Container

_IMAGE: Final = re.compile(r"(?P<name>.+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>\w+:[0-9a-f]+))?")
"""A reference to an image: a port in its registry's name is followed by a slash, a tag is not."""

_BARE_ID: Final = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


def container_attributes(container: Container | None) -> dict[str, str | tuple[str, ...]]:
    """What is known of ``container``."""
    if container is None:
        return {}
    name, tag, digest = _image(container.image)
    values = {
        "container.id": container.id,
        "container.name": container.name,
        "container.runtime.name": container.runtime,
        "container.runtime.version": container.runtime_version,
        "container.image.name": name,
        "container.image.tags": (tag,) if tag else None,
        "container.image.id": container.image_id,
        "container.image.repo_digests": (f"{name}@{digest}",) if digest else None,
        **{f"container.label.{key}": value for key, value in container.labels.items()},
    }
    return {name: value for name, value in values.items() if value}


def _image(image: str | None) -> tuple[str | None, str | None, str | None]:
    """Name, tag and digest of a reference; an image that was asked for by its id has no name."""
    found = _IMAGE.fullmatch(image or "")
    if found is None or _BARE_ID.fullmatch(image or ""):
        return None, None, None
    return found["name"], found["tag"], found["digest"]
