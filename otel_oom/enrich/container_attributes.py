"""A container as resource attributes, by OpenTelemetry's conventions for ``container.*``."""

from __future__ import annotations

import re
from typing import Final

from otel_oom.model.snapshot import Container

_IMAGE: Final = re.compile(r"(?P<name>.+?)(?::(?P<tag>[\w.-]+))?(?:@(?P<digest>\w+:[0-9a-f]+))?")
"""An image reference. A slash follows the port of a registry, but not a tag."""

_BARE_ID: Final = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


def container_attributes(container: Container | None) -> dict[str, str | tuple[str, ...]]:
    """Return the resource attributes of ``container``; unknown ones are omitted."""
    if container is None:
        return {}
    name, tag, digest = _parse_image(container.image)
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


def _parse_image(image: str | None) -> tuple[str | None, str | None, str | None]:
    """Return name, tag and digest of an image reference; a bare image id has none of them."""
    match = _IMAGE.fullmatch(image or "")
    if match is None or _BARE_ID.fullmatch(image or ""):
        return None, None, None
    return match["name"], match["tag"], match["digest"]
