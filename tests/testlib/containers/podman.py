"""Real containers of podman, with storage and state in a temporary folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testlib.containers.image import (
    BUSYBOX,
    FILL_MEMORY,
    IDLE,
    KILLED_EXIT_CODE,
    OPEN_GATE,
    build_image,
)
from tests.testlib.containers.podman_storage import (
    OPTIONS,
    podman_command,
    remove_containers,
)
from tests.testlib.process import run_server
from tests.testlib.require import require_programs

IMAGE = "localhost/otel-oom-test:latest"
_LIMIT_S = 60

NOBODY = 65534


@dataclass(frozen=True)
class Podman:
    """Podman with the image of the tests; every container has a name.

    ``rootless`` runs it as an unprivileged user whose home is ``folder``. That user has no
    subordinate ids, so all processes of its containers have one uid.
    """

    folder: Path
    rootless: bool = False
    storage_driver: str = "vfs"

    def podman(
        self,
        *words: str | Path,
        check: bool = True,
        limit_s: float = _LIMIT_S,
        **options: Any,  # noqa: ANN401  subprocess's own
    ) -> str:
        """Run podman with ``words``; return what it prints."""
        # conmon leaves a file named `oom` in the folder in which it was started.
        done = subprocess.run(
            [*self.command, *words],
            check=False,
            capture_output=True,
            timeout=limit_s,
            **{"cwd": self.folder, **options},
        )
        assert not check or done.returncode == 0, done.stderr.decode(errors="replace")
        return str(done.stdout.decode())

    @property
    def command(self) -> list[str]:
        """Return the words that run podman with its own folders."""
        if not self.rootless:
            return podman_command(self.folder, self.storage_driver)
        home, run = (f"{name}={self.folder}" for name in ("HOME", "XDG_RUNTIME_DIR"))
        of_user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        clean = ["env", "--ignore-environment", home, run, f"PATH={os.environ['PATH']}"]
        driver = [
            f"--storage-driver={self.storage_driver}",
            "--storage-opt=vfs.ignore_chown_errors=true",
        ]
        return [*of_user, *clean, "podman", *driver, *OPTIONS]

    def import_image(self) -> None:
        """Import the image."""
        self.podman("import", "-", IMAGE, input=build_image())

    def run(self, name: str, program: str, *options: str, image: str = IMAGE) -> str:
        """Run a shell ``program`` in a new container; return what podman prints, failed or not."""
        return self.podman(
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
        """Run a container that exceeds ``memory``; return its ``podman inspect``.

        Its pid and cgroup are read before it exceeds the limit: podman knows them only while the
        container runs. The killed container is not removed.
        """
        self.run(name, FILL_MEMORY, f"--memory={memory}", "--detach", *options)
        running = self.inspect(name)["State"]
        self.run_in(name, OPEN_GATE)
        assert self.wait(name) == KILLED_EXIT_CODE, self.logs(name)
        inspected = self.inspect(name)
        inspected["State"] |= {key: running[key] for key in ("Pid", "CgroupPath")}
        return inspected

    def run_in(self, name: str, program: str) -> None:
        """Run a shell ``program`` in a running container."""
        self.podman("exec", name, "sh", "-c", program)

    def wait(self, name: str) -> int:
        """Wait until a container ends; return its exit code."""
        return int(self.podman("wait", name))

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the ``podman inspect`` of a container."""
        inspected: list[dict[str, Any]] = json.loads(self.podman("inspect", name))
        return inspected[0]

    def version(self) -> str:
        """Return its version."""
        return self.podman("version", "--format={{.Version}}").strip()

    def logs(self, name: str) -> str:
        """Return what a container has printed."""
        return self.podman("logs", name)

    @contextmanager
    def run_api(self) -> Iterator[Path]:
        """Serve podman's API on a Unix socket; yield its path."""
        address = self.folder / "api.sock"
        with run_server(
            "podman-api",
            [*self.command, "system", "service", "--time=0", f"unix://{address}"],
            folder=self.folder,
            ready=lambda _: address.exists(),
        ):
            yield address

    def exists(self, name: str) -> bool:
        """Return True if podman has a container of that name."""
        return bool(self.podman("ps", "--all", "--quiet", f"--filter=name=^{name}$"))

    def remove(self, *names: str) -> None:
        """Stop and remove containers."""
        self.podman("rm", "--force", "--time=0", *names)


@contextmanager
def run_podman(storage_driver: str = "vfs") -> Iterator[Podman]:
    """Yield podman with its image, and remove all its files at the end.

    An idle container runs all the time: an agent that starts learns by it where the unusual
    folders of this podman are.
    """
    require_programs("podman", "runc", BUSYBOX)
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    with _clean_up(Podman(folder, storage_driver=storage_driver)) as running:
        running.import_image()
        running.run("idle", IDLE, "--detach")
        yield running


@contextmanager
def run_rootless_podman() -> Iterator[Podman]:
    """Yield the podman of an unprivileged user, with its image."""
    require_programs("podman", "runc", BUSYBOX)
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    os.chown(folder, NOBODY, NOBODY)
    with _clean_up(Podman(folder, rootless=True)) as running:
        running.import_image()
        yield running


@contextmanager
def _clean_up(running: Podman) -> Iterator[Podman]:
    try:
        yield running
    finally:
        remove_containers(running.folder, *running.command)
        # The process that keeps a user's namespaces outlives the containers.
        with suppress(OSError, ValueError):
            pause_pid = (running.folder / "libpod/tmp/pause.pid").read_text(encoding="ascii")
            os.kill(int(pause_pid), signal.SIGKILL)
        shutil.rmtree(running.folder, ignore_errors=True)
