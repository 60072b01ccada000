"""Archives of images for a runtime that cannot build any."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence

from tests.testlib.containers.cri import IMAGE, PAUSE
from tests.testlib.containers.image import build_image

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def build_archive(layer: bytes, entrypoints: Mapping[str, Sequence[str]]) -> bytes:
    """Return an archive of images by their tags, as `docker save` writes it.

    All of them have the files of ``layer``, a tar archive.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        manifest = []
        for number, (tag, entrypoint) in enumerate(entrypoints.items()):
            digest = hashlib.sha256(layer).hexdigest()
            config = {
                "architecture": _MACHINES[platform.machine()],
                "os": "linux",
                "config": {"Entrypoint": list(entrypoint)},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            }
            name = f"{number}.json"
            _add(tar, name, json.dumps(config).encode())
            manifest.append({"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]})
        _add(tar, "layer.tar", layer)
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return buffer.getvalue()


def build_pod_images() -> bytes:
    """Return the archive of the tests' image, and of what keeps the namespaces of a pod."""
    return build_archive(build_image(), {IMAGE: ["/bin/sh"], PAUSE: ["/bin/sleep", "100000"]})


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
