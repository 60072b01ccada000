"""Podman in a container of podman, with storage and state in that container only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.testlib.containers.image import IDLE, build_host_image
from tests.testlib.containers.podman import Podman

_IMAGE = "localhost/otel-oom-host:latest"
_OPTIONS = ("root", "runroot", "tmpdir", "network-config-dir")


@dataclass(frozen=True)
class NestedPodman(Podman):
    """The inner podman; ``outer`` is the command prefix that runs a program in its container."""

    outer: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        return [
            *self.outer,
            "podman",
            *(f"--{name}=/store/{name}" for name in _OPTIONS),
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
    outer.podman("import", "-", _IMAGE, input=build_host_image())
    folders = (f"--tmpfs=/{folder}" for folder in ("store", "run", "tmp", "var/tmp"))
    programs = (f"--volume=/{folder}:/{folder}:ro" for folder in ("usr", "etc"))
    options = ("--detach", "--privileged", "--cgroupns=private", *folders, *programs)
    outer.run(name, IDLE, *options, image=_IMAGE)
    within = ("exec", "--interactive", name)
    inner = NestedPodman(outer.folder, outer=(*outer.command, *within))
    try:
        inner.import_image()
        yield inner
    finally:
        inner.podman("rm", "--all", "--force", "--time=0", check=False)
        outer.remove(name)
