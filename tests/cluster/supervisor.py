"""The process that starts a cluster's components, and ends them.

    unshare --mount --net --propagation private python -m tests.cluster.supervisor NODE FOLDER

It ends the cluster at the end of its standard input, and so with the tests.
"""

from __future__ import annotations

import ctypes
import select
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.cluster import cgroups, components
from tests.cluster.api import Api
from tests.cluster.identities import write_identities
from tests.cluster.name_server import NameServer
from tests.cluster.namespaces import make_private_mounts, make_private_network
from tests.cluster.plan import ClusterFolder
from tests.cluster.settings import write_settings
from tests.testlib.process import ServerProcess, run_server
from tests.testlib.wait import wait_until

_PR_SET_CHILD_SUBREAPER: Final = 36
_START_S: Final = 300.0
"""A machine with two CPU-bound programs beside it takes ten times as long as an idle one."""


class ComponentError(RuntimeError):
    """A component ended by itself."""


class Components:
    """The running components."""

    def __init__(self, stack: ExitStack, folder: ClusterFolder) -> None:
        """Stop each component at the end of ``stack``."""
        self._stack = stack
        self._folder = folder
        self._running: list[ServerProcess] = []

    def start(self, name: str, command: components.Command) -> None:
        """Start a component, which is not ready yet."""
        self._running.append(
            self._stack.enter_context(
                run_server(name, command, folder=self._folder.logs, ready=lambda _: True)
            )
        )

    def check(self) -> None:
        """Raise ComponentError with the end of its log if a component has ended."""
        for process in self._running:
            if process.child.poll() is not None:
                tail = "\n".join(process.output().splitlines()[-20:])
                raise ComponentError(f"{process.name} ended:\n{tail}")


def main() -> None:
    """Run the cluster until standard input ends."""
    node, folder = Path(sys.argv[1]), ClusterFolder(Path(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this process
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with ExitStack() as stack:
        running = Components(stack, folder)
        try:
            _start(running, node, folder)
            while not select.select([sys.stdin], [], [], 0.5)[0]:
                running.check()
        finally:
            # Nothing of it is kept, so that no component has to end in an orderly way.
            cgroups.remove_cgroups(folder.path.name)


def _start(running: Components, node: Path, folder: ClusterFolder) -> None:
    started = time.monotonic()
    for own in (folder.logs, folder.static_pods):
        own.mkdir()
    write_identities(folder)
    write_settings(folder)
    make_private_mounts(folder)
    make_private_network(folder)
    cgroups.make_cgroups(folder.path.name)
    cgroups.join_components(folder.path.name)
    api = Api(folder)

    def is_ready() -> bool:
        running.check()
        return api.get("/readyz") == "ok"

    def is_usable() -> bool:
        running.check()
        return api.is_usable()

    running.start("containerd", components.containerd(folder))
    running.start("etcd", components.etcd(node, folder))
    running.start("kube-apiserver", components.apiserver(node, folder))
    wait_until(is_ready, "the API server", limit=_START_S)
    NameServer(api.service_address).start()
    running.start("kube-controller-manager", components.controllers(node, folder))
    running.start("kube-scheduler", components.scheduler(node, folder))
    running.start("kube-proxy", components.proxy(node, folder))
    running.start("kubelet", components.kubelet(node, folder))
    wait_until(is_usable, "a usable node", limit=_START_S)
    folder.ready.write_text(f"{time.monotonic() - started:.1f} s\n", encoding="ascii")


if __name__ == "__main__":
    main()
