"""A root directory with the files of one container, for the targets that replace one of them."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.cri import KEYS
from otel_oom.model.snapshot import Container

CONTAINER_ID: Final = "a" * 64
SANDBOX_ID: Final = "b" * 64
LABELS: Final = frozenset({"team", "app.kubernetes.io/name"})
_MAX_TEXT_BYTES: Final = 4096
"""1024 characters."""
_MAX_LABELS: Final = 64


class ContainerRoot:
    """A root directory in memory; ``bundle_dir`` has the container's bundle."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # noqa: S108  a private directory below it
        self.root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        atexit.register(shutil.rmtree, self.root, ignore_errors=True)
        self.bundle_dir = BundleDir(self.root, Path("/run/overlay-containers"))

    def write(self, path: str, content: bytes | Mapping[str, object]) -> None:
        """Write a file below the root, as it is or as JSON."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def check_container(container: Container) -> None:
    """Check that a container can be stored, and has the selected values only, all bounded."""
    assert msgspec.json.decode(msgspec.json.encode(container), type=Container) == container
    assert container.labels.keys() <= LABELS
    assert container.annotations.keys() <= KEYS
    assert len(container.labels) <= _MAX_LABELS
    texts = (container.name, container.image, container.image_id, container.runtime)
    for text in (*texts, *container.labels.values(), *container.annotations.values()):
        assert text is None or 0 < len(text.encode()) <= _MAX_TEXT_BYTES
