"""A real Kubernetes cluster of one node, as its tests use it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tests.cluster.plan import ClusterFolder
from tests.cluster.remains import open_folder
from tests.cluster.settings import choose_snapshotter
from tests.testlib.repository import REPOSITORY
from tests.testlib.wait import wait_until

Json = dict[str, Any]
T = TypeVar("T")

_COMMAND_S: Final = 180.0
_START_S: Final = 330.0
_STOP_S: Final = 120.0
_CLONE_NEWNET: Final = 0x40000000


class ClusterError(RuntimeError):
    """A cluster did not start, or a command in it failed; has what was printed."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: the program of all its parts, its folder, and its supervisor's pid."""

    node: Path
    folder: ClusterFolder
    pid: int

    def run(self, *command: str | Path, stdin: str = "", within_s: float = _COMMAND_S) -> str:
        """Run a command in the cluster's network, which must succeed; return what it prints.

        Raises:
            ClusterError: with its standard error.
        """
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *command],
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
            timeout=within_s,
            cwd=self.folder.path,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder.path), **self._environ},
        )
        if done.returncode:
            words = " ".join(map(str, command))
            raise ClusterError(f"`{words}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    @property
    def _environ(self) -> Mapping[str, str]:
        return {"KUBECONFIG": str(self.folder.kubeconfig("admin"))}

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl as the administrator; return what it prints."""
        return self.run(self.node, "kubectl", *words, stdin=stdin)

    def apply(self, *objects: Json) -> None:
        """Create or change objects."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(_list(objects)))

    def get(self, namespace: str, *words: str) -> Any:  # noqa: ANN401  an object of any kind
        """Return what the API server has of an object, or a list."""
        return json.loads(self.kubectl("-n", namespace, "get", *words, "-o", "json"))

    def list_pods(self, namespace: str, selector: str = "") -> list[Json]:
        """Return the pods of a namespace that have the labels of ``selector``."""
        words = [f"--selector={selector}"] if selector else []
        pods: list[Json] = self.get(namespace, "pods", *words)["items"]
        return pods

    def import_image(self, archive: Path) -> None:
        """Import the images of an archive."""
        snapshotter = choose_snapshotter(self.folder)
        # The snapshots are mounted by this command, in the mounts that containerd has.
        subprocess.run(
            [
                *("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--"),
                *("ctr", f"--address={self.folder.socket}", "--namespace=k8s.io"),
                *("images", "import", f"--snapshotter={snapshotter}", archive),
            ],
            check=True,
            capture_output=True,
            timeout=_COMMAND_S,
        )

    def path(self, path: str) -> Path:
        """Return a file or folder of the cluster's mounts by its path there."""
        return Path(f"/proc/{self.pid}/root") / path.lstrip("/")

    def call_in_network(self, function: Callable[[], T]) -> T:
        """Call a function that opens sockets, which belong to the cluster's network for good."""
        results: list[T] = []

        def enter() -> None:
            with Path(f"/proc/{self.pid}/ns/net").open("rb") as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            results.append(function())

        thread = threading.Thread(target=enter)  # alone in that network, and only until its end
        thread.start()
        thread.join()
        return results[0]


@contextmanager
def run_cluster(node: Path) -> Iterator[Cluster]:
    """Start a cluster, yield it once pods can run, and remove all that it has made.

    Raises:
        ClusterError: it did not start; has the end of the supervisor's log.
    """
    with open_folder() as (folder, lock):
        log = folder.path / "supervisor.log"
        with log.open("wb") as output:
            supervisor = subprocess.Popen(
                [
                    *("unshare", "--mount", "--net", "--propagation=private", "--"),
                    *(sys.executable, "-m", "tests.cluster.supervisor", node, folder.path),
                ],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[lock],
            )
        try:
            _wait_until_ready(supervisor, folder, log)
            yield Cluster(node, folder, supervisor.pid)
        finally:
            supervisor.communicate(timeout=_STOP_S)  # closes its standard input


def _wait_until_ready(
    supervisor: subprocess.Popen[bytes], folder: ClusterFolder, log: Path
) -> None:
    def is_over() -> bool:
        return folder.ready.exists() or supervisor.poll() is not None

    try:
        wait_until(is_over, "the cluster", limit=_START_S)
    finally:
        if not folder.ready.exists():
            raise ClusterError(log.read_text(encoding="utf-8", errors="replace")[-4000:])


def _list(objects: Sequence[Json]) -> Json:
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}
