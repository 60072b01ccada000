"""The images of the tests: otel-oom's own, and a small one whose containers run shell programs."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from tests.testlib.containers import base_image
from tests.testlib.containers.base_image import CONTAINERFILE, REQUIREMENTS
from tests.testlib.containers.podman_storage import find_storage_driver, temporary_podman
from tests.testlib.distribution import built_wheel, remove_unused
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require_programs
from tests.testlib.servers.build import cache_folder, lock_file

AGENT_IMAGE: Final = "localhost/otel-oom:test"
_IGNORE: Final = REPOSITORY / ".dockerignore"
_PIP_CONF: Final = "[global]\nno-index = true\nfind-links = /wheels\n"
_BUILD_S: Final = 900.0

BUSYBOX: Final = Path("/bin/busybox")

FILL_MEMORY: Final = "mkfifo /gate; read _ < /gate; exec tail /dev/zero"
"""Waits until the gate is opened, then allocates memory until it is killed."""
FILL_MEMORY_IN_CHILD: Final = "mkfifo /gate; read _ < /gate; tail /dev/zero; exec sleep 100000"
"""The same in a child process: the container and its shim live on."""
OPEN_GATE: Final = "echo > /gate"
"""Opens the gate; runs in the same container."""
IDLE: Final = "exec sleep 100000"

KILLED_EXIT_CODE: Final = 137
"""What runtimes report of a process that SIGKILL has ended."""


def built_image() -> Path:
    """Return the agent's image as an archive of Docker's kind, built by the Containerfile.

    Its tag is :data:`AGENT_IMAGE`. The first call for a state of the sources takes a minute, and
    minutes where the base is missing as well.
    """
    require_programs("podman", "runc")
    wheel, base = built_wheel(), base_image.built_base()
    digest = hashlib.sha256(base.name.encode())
    for file in (Path(__file__), CONTAINERFILE, _IGNORE, REQUIREMENTS, wheel):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    path = cache_folder() / f"images/otel-oom-{digest.hexdigest()[:12]}.tar"
    with lock_file(path.with_suffix(".lock")):
        if not path.exists():
            remove_unused(path.parent)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as folder:
                _build(Path(folder), wheel, base).rename(path)
        os.utime(path)
    return path


def _build(folder: Path, wheel: Path, base: Path) -> Path:
    """Build the image in ``folder``, without a network; return its archive."""
    context, wheels, archive = (folder / name for name in ("context", "wheels", "image.tar"))
    base_image.copy_build_context(context, wheel)
    base_image.download_requirements(wheels, "x86_64")
    (folder / "pip.conf").write_text(_PIP_CONF, encoding="utf-8")
    version = f"--build-arg=VERSION={wheel.name.split('-')[1]}"
    options = ("--format=docker", "--layers=false", "--network=none", "--timestamp=0", version)
    mounts = (f"--volume={wheels}:/wheels:ro", f"--volume={folder / 'pip.conf'}:/etc/pip.conf:ro")
    words = (f"--file={CONTAINERFILE}", f"--ignorefile={_IGNORE}", f"--tag={AGENT_IMAGE}", context)
    with temporary_podman(find_storage_driver()) as podman:
        for command in (
            ("import", base, base_image.read_base_name()),
            ("build", *options, *mounts, *words),
            ("save", f"--output={archive}", AGENT_IMAGE),
        ):
            done = subprocess.run(
                [*podman, *command], check=False, capture_output=True, timeout=_BUILD_S
            )
            assert done.returncode == 0, done.stderr.decode(errors="replace")
    return archive


def build_image() -> bytes:
    """Return the files of the image as a tar archive: busybox under a few names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        add_links(tar, {f"bin/{name}": "busybox" for name in _COMMANDS})
    return buffer.getvalue()


def build_host_image() -> bytes:
    """Return the files of an image as a tar archive: links to the programs below /usr."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_links(tar, {folder: f"usr/{folder}" for folder in ("bin", "lib", "lib64", "sbin")})
    return buffer.getvalue()


def add_links(tar: tarfile.TarFile, links: dict[str, str]) -> None:
    """Add symbolic links by their names and targets."""
    for name, target in links.items():
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)


_COMMANDS: Final = ("dd", "head", "mkfifo", "sh", "sleep", "tail")
