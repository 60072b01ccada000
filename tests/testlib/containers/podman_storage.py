"""Podman with all of its own files in one folder."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPTIONS = ("--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime=runc")


def podman_command(folder: Path, storage_driver: str) -> list[str]:
    """Return the words that run podman with its files in ``folder``."""
    return [
        "podman",
        f"--root={folder / 'storage'}",
        f"--runroot={folder / 'run'}",
        f"--tmpdir={folder / 'tmp'}",
        f"--network-config-dir={folder / 'network'}",
        f"--storage-driver={storage_driver}",
        *OPTIONS,
    ]


def find_storage_driver() -> str:
    """Return overlay, which copies no images, or vfs where temporary files are on an overlay."""
    command = ["stat", "--file-system", "--format=%T", tempfile.gettempdir()]
    kind = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return "vfs" if kind == "overlayfs" else "overlay"


def remove_containers(folder: Path, *command: str) -> None:
    """Remove containers, images and mounts of the podman that ``command`` runs."""
    for words in (("rm", "--all", "--force", "--time=0"), ("system", "reset", "--force")):
        subprocess.run([*command, *words], check=False, capture_output=True, cwd=folder)


@contextmanager
def temporary_podman(storage_driver: str) -> Iterator[list[str]]:
    """Yield the words that run podman with an empty storage; remove all of it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    command = podman_command(folder, storage_driver)
    try:
        yield command
    finally:
        remove_containers(folder, *command)
        shutil.rmtree(folder, ignore_errors=True)
