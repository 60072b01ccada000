"""Real containers by podman, with storage and state of the test's own."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testlib.process import run_server

BUSYBOX = Path("/bin/busybox")
IMAGE = "localhost/otel-oom-test:latest"
_LIMIT_S = 60

FILL_MEMORY = "mkfifo /gate; read _ < /gate; exec tail /dev/zero"
"""A container's program that takes memory until it is killed, once it is let."""
FILL_MEMORY_IN_CHILD = "mkfifo /gate; read _ < /gate; tail /dev/zero; exec sleep 100000"
"""The same, and the container goes on without it: its monitor is there to be found."""
IDLE = "exec sleep 100000"
OPEN_GATE = "echo > /gate"
"""Run in the same container, this lets it."""
_NOBODY = 65534
KILLED_EXIT_CODE = 137
"""What runtimes have as exit code of a program that SIGKILL has ended."""


@dataclass(frozen=True)
class Podman:
    """podman with one small image of our own making; every container is named.

    ``rootless`` runs it as a user who may do nothing, with a home in ``folder``. That user has no
    further ids, and all in its containers is one user's.
    """

    folder: Path
    rootless: bool = False

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
        options = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]
        if self.rootless:
            home, run = (f"{name}={self.folder}" for name in ("HOME", "XDG_RUNTIME_DIR"))
            of_user = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
            clean = ["env", "--ignore-environment", home, run, f"PATH={os.environ['PATH']}"]
            one_user = "--storage-opt=vfs.ignore_chown_errors=true"
            return [*of_user, *clean, "podman", *options, one_user, "--runtime=runc"]
        own = [f"--root={self.folder / 'storage'}", f"--runroot={self.folder / 'run'}"]
        return ["podman", *own, f"--tmpdir={self.folder / 'tmp'}", *options, "--runtime=runc"]

    def import_image(self) -> None:
        """Make the image."""
        self._podman("import", "-", IMAGE, input=build_image())

    def run(self, name: str, program: str, *options: str, image: str = IMAGE) -> str:
        """Run a container with a shell's ``program``; what podman prints, whatever it ends with."""
        return self._podman(
            "run",
            f"--name={name}",
            "--network=none",
            # The defaults raise limits above what an unprivileged host allows.
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            *options,
            image,
            *("sh", "-c", program),
            check=False,
        )

    def run_until_killed(self, name: str, *options: str, memory: str = "24m") -> dict[str, Any]:
        """Run a container that takes more than ``memory``; what ``podman inspect`` says of it.

        It waits until podman has said what it knows of it only while it runs, its pid and cgroup.
        Killed, it is left to be looked at.
        """
        self.run(name, FILL_MEMORY, f"--memory={memory}", "--detach", *options)
        running = self.inspect(name)["State"]
        self.run_in(name, OPEN_GATE)
        assert self.ended(name) == KILLED_EXIT_CODE, self.logs(name)
        ended = self.inspect(name)
        ended["State"] |= {key: running[key] for key in ("Pid", "CgroupPath")}
        return ended

    def run_in(self, name: str, program: str) -> None:
        """Run a shell's ``program`` in a container that runs."""
        self._podman("exec", name, "sh", "-c", program)

    def ended(self, name: str) -> int:
        """Wait for the end of a container; its exit code."""
        return int(self._podman("wait", name))

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
        with run_server(
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


def build_image() -> bytes:
    """The files of an image, as tar has them: a busybox that answers to a few names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for name in ("dd", "head", "mkfifo", "sh", "sleep", "tail"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def missing() -> str:
    """What this machine lacks to run containers; nothing if it can."""
    tools = [name for name in ("podman", "runc") if not shutil.which(name)]
    return " and ".join([*tools, *([] if BUSYBOX.exists() else ["busybox-static"])])


@contextmanager
def run_podman() -> Iterator[Podman]:
    """Yield podman with its image ready; nothing of it is left afterwards.

    A container runs all the time. Its folders are not the usual ones, and an agent learns of them
    by this one as it starts.
    """
    with _cleaned(Podman(Path(tempfile.mkdtemp(prefix="podman-")))) as running:
        running.run("standing", IDLE, "--detach")
        yield running


@contextmanager
def run_rootless_podman() -> Iterator[Podman]:
    """Yield podman of a user who is not root, with its image ready."""
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    os.chown(folder, _NOBODY, _NOBODY)
    with _cleaned(Podman(folder, rootless=True)) as running:
        yield running


@contextmanager
def _cleaned(running: Podman) -> Iterator[Podman]:
    try:
        running.import_image()
        yield running
    finally:
        running._podman("rm", "--all", "--force", "--time=0", check=False)  # noqa: SLF001  its own module
        # Removes what podman mounted in its folders before the folders go.
        running._podman("system", "reset", "--force", check=False)  # noqa: SLF001  its own module
        # The process that holds a user's namespaces outlives all else.
        with suppress(OSError, ValueError):
            held_by = (running.folder / "libpod/tmp/pause.pid").read_text(encoding="ascii")
            os.kill(int(held_by), signal.SIGKILL)
        shutil.rmtree(running.folder, ignore_errors=True)
