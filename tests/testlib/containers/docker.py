"""Real containers of Docker, by a daemon with all of its folders in a temporary one."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_oom.linux.procfs import read_mounts
from tests.testlib.containers.image import (
    BUSYBOX,
    FILL_MEMORY,
    IDLE,
    KILLED_EXIT_CODE,
    OPEN_GATE,
    build_image,
)
from tests.testlib.process import ServerProcess, run_server
from tests.testlib.require import require_programs

IMAGE = "localhost/otel-oom-test:1.2"
_LIMIT_S = 60


@dataclass(frozen=True)
class Docker:
    """A running dockerd with the image of the tests; every container has a name."""

    process: ServerProcess
    prefix: tuple[str, ...] = ()
    """The command that runs the client."""

    @property
    def socket(self) -> Path:
        """Return the path of the API's socket."""
        return self.process.folder / "docker.sock"

    @property
    def command(self) -> list[str]:
        """Return the words that run the client."""
        return [*self.prefix, "docker", "--host", f"unix://{self.socket}"]

    def docker(self, *words: str, check: bool = True, stdin: bytes | None = None) -> str:
        """Run the client; return what it prints."""
        done = subprocess.run(
            [*self.command, *words],
            check=False,
            capture_output=True,
            timeout=_LIMIT_S,
            input=stdin,
        )
        assert not check or done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()

    def version(self) -> str:
        """Return the version of the daemon."""
        return self.docker("version", "--format={{.Server.Version}}").strip()

    def run(self, name: str, program: str, *options: str) -> str:
        """Run a shell ``program`` in a new container; return what Docker prints, failed or not."""
        shell = ("sh", "-c", program)
        options = (f"--name={name}", "--network=none", *options)
        return self.docker("run", *options, IMAGE, *shell, check=False)

    def run_until_killed(self, name: str, *options: str, memory: str = "24m") -> dict[str, Any]:
        """Run a container that exceeds ``memory``; return its ``docker inspect``.

        Its pid is read before it exceeds the limit: Docker knows it only while the container
        runs. The killed container is not removed.
        """
        self.run(name, FILL_MEMORY, f"--memory={memory}", "--detach", *options)
        pid = self.inspect(name)["State"]["Pid"]
        self.run_in(name, OPEN_GATE)
        assert self.wait(name) == KILLED_EXIT_CODE, self.docker("logs", name)
        inspected = self.inspect(name)
        inspected["State"]["Pid"] = pid
        return inspected

    def run_in(self, name: str, program: str) -> None:
        """Run a shell ``program`` in a running container."""
        self.docker("exec", name, "sh", "-c", program)

    def wait(self, name: str) -> int:
        """Wait until a container ends; return its exit code."""
        return int(self.docker("wait", name))

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the ``docker inspect`` of a container."""
        inspected: list[dict[str, Any]] = json.loads(self.docker("inspect", name))
        return inspected[0]


@contextmanager
def run_docker() -> Iterator[Docker]:
    """Yield Docker with its image, and remove all its files at the end.

    As with podman, an idle container runs all the time.
    """
    require_programs("dockerd", "docker", "iptables", BUSYBOX)
    folder = Path(tempfile.mkdtemp(prefix="docker-"))
    command = (
        *("dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false"),
        *("--storage-driver=vfs", f"--data-root={folder / 'data'}"),
        *(f"--exec-root={folder / 'exec'}", f"--pidfile={folder / 'pid'}"),
        f"--host=unix://{folder / 'docker.sock'}",
    )
    try:
        with (
            run_server(
                "dockerd", command, folder=folder, ready=lambda process: is_ready(Docker(process))
            ) as process,
            use_docker(Docker(process)) as runtime,
        ):
            yield runtime
    finally:
        # A container in the host's network leaves this mount behind.
        for mount in [each.path for each in read_mounts() if each.path.is_relative_to(folder)]:
            subprocess.run(["umount", mount], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def use_docker(runtime: Docker) -> Iterator[Docker]:
    """Yield a new Docker with its image and the idle container; remove all containers."""
    runtime.docker("import", "-", IMAGE, stdin=build_image())
    runtime.run("idle", IDLE, "--detach")
    yield runtime
    containers = runtime.docker("ps", "--all", "--quiet").split()
    if containers:
        runtime.docker("rm", "--force", *containers)


def is_ready(runtime: Docker) -> bool:
    return runtime.socket.exists() and bool(runtime.docker("version", check=False).count("Server"))
