"""Real containers by Docker: a daemon with all of its folders in one of the test's own."""

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

from tests.testlib.containers import podman
from tests.testlib.process import ServerProcess, run_server

IMAGE = "localhost/otel-oom-test:1.2"
_LIMIT_S = 60


@dataclass(frozen=True)
class Docker:
    """A running dockerd with one small image of our own making; every container is named."""

    process: ServerProcess

    @property
    def socket(self) -> Path:
        """Where its API is."""
        return self.process.folder / "docker.sock"

    def docker(self, *words: str, check: bool = True, given: bytes | None = None) -> str:
        """Run the client; what it prints."""
        done = subprocess.run(
            ["docker", "--host", f"unix://{self.socket}", *words],
            check=False,
            capture_output=True,
            timeout=_LIMIT_S,
            input=given,
        )
        assert not check or done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()

    def version(self) -> str:
        """The daemon's own."""
        return self.docker("version", "--format={{.Server.Version}}").strip()

    def run(self, name: str, program: str, *options: str) -> str:
        """Run a container with a shell's ``program``; what Docker prints, whatever it ends with."""
        shell = ("sh", "-c", program)
        named = (f"--name={name}", "--network=none", *options)
        return self.docker("run", *named, IMAGE, *shell, check=False)

    def run_until_killed(self, name: str, *options: str, memory: str = "24m") -> dict[str, Any]:
        """Run a container that takes more than ``memory``; what ``docker inspect`` says of it.

        It waits until Docker has said its pid, which it knows only while it runs. Killed, it is
        left to be looked at.
        """
        self.run(name, podman.FILL_MEMORY, f"--memory={memory}", "--detach", *options)
        pid = self.inspect(name)["State"]["Pid"]
        self.run_in(name, podman.OPEN_GATE)
        assert self.ended(name) == podman.KILLED_EXIT_CODE, self.docker("logs", name)
        ended = self.inspect(name)
        ended["State"]["Pid"] = pid
        return ended

    def run_in(self, name: str, program: str) -> None:
        """Run a shell's ``program`` in a container that runs."""
        self.docker("exec", name, "sh", "-c", program)

    def ended(self, name: str) -> int:
        """Wait for the end of a container; its exit code."""
        return int(self.docker("wait", name))

    def inspect(self, name: str) -> dict[str, Any]:
        """What ``docker inspect`` says of a container."""
        inspected: list[dict[str, Any]] = json.loads(self.docker("inspect", name))
        return inspected[0]


def missing() -> str:
    """What this machine lacks to run containers; nothing if it can."""
    tools = [name for name in ("dockerd", "docker", "iptables") if not shutil.which(name)]
    return " and ".join([*tools, *([] if podman.BUSYBOX.exists() else ["busybox-static"])])


@contextmanager
def run_docker() -> Iterator[Docker]:
    """Yield Docker with its image ready; nothing of it is left afterwards.

    As with podman's, one container runs all the time.
    """
    folder = Path(tempfile.mkdtemp(prefix="docker-"))
    command = (
        *("dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false"),
        *("--storage-driver=vfs", f"--data-root={folder / 'data'}"),
        *(f"--exec-root={folder / 'exec'}", f"--pidfile={folder / 'pid'}"),
        f"--host=unix://{folder / 'docker.sock'}",
    )
    try:
        with run_server(
            "dockerd", command, folder=folder, ready=lambda process: _answers(Docker(process))
        ) as process:
            runtime = Docker(process)
            runtime.docker("import", "-", IMAGE, given=podman.build_image())
            runtime.run("standing", podman.IDLE, "--detach")
            yield runtime
            left = runtime.docker("ps", "--all", "--quiet").split()
            if left:
                runtime.docker("rm", "--force", *left)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(runtime: Docker) -> bool:
    return runtime.socket.exists() and bool(runtime.docker("version", check=False).count("Server"))
