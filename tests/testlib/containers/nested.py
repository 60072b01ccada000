"""Podman in a container of podman, with storage and state in that container only."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.testlib.containers.image import IDLE, add_links
from tests.testlib.containers.podman import Podman

_IMAGE = "localhost/otel-oom-host:latest"
_FOLDERS = ("bin", "lib", "lib64", "sbin")


@dataclass(frozen=True)
class NestedPodman(Podman):
    """The inner podman; ``outer`` is the command prefix that runs a program in its container."""

    outer: tuple[str, ...] = ()

    @property
    def _command(self) -> list[str]:
        return [
            *self.outer,
            "podman",
            *(f"--{name}=/store/{name}" for name in ("root", "runroot", "tmpdir")),
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
            "--events-backend=none",
            "--runtime=runc",
        ]


@contextmanager
def run_nested_podman(outer: Podman, name: str) -> Iterator[NestedPodman]:
    """Yield podman in a new container of ``outer``, with its image; remove both at the end.

    The container has the host's programs, and none of the host's files about containers.
    """
    outer._podman("import", "-", _IMAGE, input=_build_host_image())  # noqa: SLF001  of its own base class
    folders = (f"--tmpfs=/{folder}" for folder in ("store", "run", "tmp", "var/tmp"))
    programs = (f"--volume=/{folder}:/{folder}:ro" for folder in ("usr", "etc"))
    options = ("--detach", "--privileged", "--cgroupns=private", *folders, *programs)
    outer.run(name, IDLE, *options, image=_IMAGE)
    within = ("exec", "--interactive", name)
    inner = NestedPodman(outer.folder, outer=(*outer._command, *within))  # noqa: SLF001  of its own base class
    try:
        inner.import_image()
        yield inner
    finally:
        inner._podman("rm", "--all", "--force", "--time=0", check=False)  # noqa: SLF001  of its own base class
        outer.remove(name)


def _build_host_image() -> bytes:
    """Return the files of an image as a tar archive: links to the programs below /usr."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_links(tar, {folder: f"usr/{folder}" for folder in _FOLDERS})
    return buffer.getvalue()
