"""Real containers by podman, with storage and state of the test's own."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parts.process import running

BUSYBOX = Path("/bin/busybox")
IMAGE = "localhost/otel-oom-test:latest"
_LIMIT_S = 60


@dataclass(frozen=True)
class Podman:
    """podman with one small image of our own making; every container is named."""

    folder: Path

    def _podman(self, *words: str, check: bool = True, **options: Any) -> str:  # noqa: ANN401  subprocess's own
        # The container's monitor leaves a file named `oom` in the folder it was started in.
        done = subprocess.run(
            [*self._command, *words],
            check=False,
            capture_output=True,
            timeout=_LIMIT_S,
            cwd=self.folder,
            **options,
        )
        assert not check or done.returncode == 0, done.stderr.decode(errors="replace")
        return str(done.stdout.decode())

    @property
    def _command(self) -> list[str]:
        return [
            "podman",
            f"--root={self.folder / 'storage'}",
            f"--runroot={self.folder / 'run'}",
            f"--tmpdir={self.folder / 'tmp'}",
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
            "--events-backend=none",
            "--runtime=runc",
        ]

    def import_image(self) -> None:
        """Make the image."""
        self._podman("import", "-", IMAGE, input=image())

    def run(self, name: str, program: str, *options: str) -> str:
        """Run a container with a shell's ``program``; what podman prints, whatever it ends with."""
        return self._podman(
            "run",
            f"--name={name}",
            "--network=none",
            # The defaults raise limits above what an unprivileged host allows.
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            *options,
            IMAGE,
            *("sh", "-c", program),
            check=False,
        )

    def run_until_killed(self, name: str, *options: str, memory: str = "24m") -> dict[str, Any]:
        """Run a container that takes more than ``memory``; what ``podman inspect`` says of it."""
        self.run(name, "exec tail /dev/zero", f"--memory={memory}", *options)
        inspected = self.inspect(name)
        self.remove(name)
        return inspected

    def inspect(self, name: str) -> dict[str, Any]:
        """What ``podman inspect`` says of a container."""
        inspected: list[dict[str, Any]] = json.loads(self._podman("inspect", name))
        return inspected[0]

    def version(self) -> str:
        """Its own."""
        return self._podman("version", "--format={{.Version}}").strip()

    def logs(self, name: str) -> str:
        """What a container has printed."""
        return self._podman("logs", name)

    @contextmanager
    def api(self) -> Iterator[Path]:
        """Podman's API on a Unix socket."""
        address = self.folder / "api.sock"
        with running(
            "podman-api",
            [*self._command, "system", "service", "--time=0", f"unix://{address}"],
            folder=self.folder,
            ready=lambda _: address.exists(),
        ):
            yield address

    def exists(self, name: str) -> bool:
        """Whether podman knows a container."""
        return bool(self._podman("ps", "--all", "--quiet", f"--filter=name=^{name}$"))

    def remove(self, *names: str) -> None:
        """End and forget containers."""
        self._podman("rm", "--force", "--time=0", *names)


def image() -> bytes:
    """The files of an image, as tar has them: a busybox that answers to a few names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for name in ("dd", "head", "sh", "sleep", "tail"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def missing() -> str:
    """What this machine lacks to run containers; nothing if it can."""
    tools = [name for name in ("podman", "runc") if not shutil.which(name)]
    return " and ".join([*tools, *([] if BUSYBOX.exists() else ["busybox-static"])])


@contextmanager
def podman() -> Iterator[Podman]:
    """Yield podman with its image ready; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    running = Podman(folder)
    try:
        running.import_image()
        yield running
    finally:
        # Removes what podman mounted in its folders before the folders go.
        running._podman("system", "reset", "--force", check=False)  # noqa: SLF001  its own module
        shutil.rmtree(folder, ignore_errors=True)
