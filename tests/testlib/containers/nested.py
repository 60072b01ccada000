"""Podman in a container of podman's: with storage and state in that container alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.testlib.containers.podman import IDLE, Podman

_IMAGE = "localhost/otel-oom-host:latest"
_FOLDERS = ("bin", "lib", "lib64", "sbin")


@dataclass(frozen=True)
class Inner(Podman):
    """The one inside; ``outer`` are the words that run a program in its container."""

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
def run_nested_podman(outer: Podman, name: str) -> Iterator[Inner]:
    """Yield podman in a new container, with its image ready, and end both.

    The container has the host's programs, and no file of the host that tells of containers.
    """
    outer._podman("import", "-", _IMAGE, input=_links())  # noqa: SLF001  the same part
    folders = (f"--tmpfs=/{folder}" for folder in ("store", "run", "tmp", "var/tmp"))
    programs = (f"--volume=/{folder}:/{folder}:ro" for folder in ("usr", "etc"))
    options = ("--detach", "--privileged", "--cgroupns=private", *folders, *programs)
    outer.run(name, IDLE, *options, image=_IMAGE)
    within = ("exec", "--interactive", name)
    inner = Inner(outer.folder, outer=(*outer._command, *within))  # noqa: SLF001  the same part
    try:
        inner.import_image()
        yield inner
    finally:
        inner._podman("rm", "--all", "--force", "--time=0", check=False)  # noqa: SLF001  its own
        outer.remove(name)


def _links() -> bytes:
    """The files of an image that has its programs below /usr."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in _FOLDERS:
            link = tarfile.TarInfo(folder)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{folder}"
            tar.addfile(link)
    return buffer.getvalue()
