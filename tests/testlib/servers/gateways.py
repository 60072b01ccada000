"""Real gateways of collector-config/gateway.yaml, two by two."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.collector import Collector, Config, run_collector
from tests.testlib.servers.sent_kill import SentKill
from tests.testlib.servers.web import is_ok
from tests.testlib.wait import wait_until

GATEWAY: Final = REPOSITORY / "collector-config/gateway.yaml"
PODS: Final = 12
"""Kills of so many hosts or pods reach both gateways, but for one run in 2,048."""


class Gateways:
    """Two gateways, which are started as often as a test likes, on the same files and ports."""

    def __init__(self, binary: Path, folder: Path, *configs: Config) -> None:
        """Prepare two in ``folder``; ``configs`` are put after their own."""
        self.binary = binary
        self.folder = folder
        self.backend = f"{LOOPBACK}:{free_port()}"
        self._configs: Sequence[Config] = configs
        self._peers = [f"{LOOPBACK}:{free_port()}" for _ in range(2)]
        self._http = [f"{LOOPBACK}:{free_port()}" for _ in range(2)]

    @property
    def urls(self) -> tuple[str, ...]:
        """Return the base URLs at which agents are received."""
        return tuple(f"http://{address}" for address in self._http)

    @contextmanager
    def run(self, number: int) -> Iterator[Collector]:
        """Run one of the two."""
        folder = self.folder / f"gateway-{number}"
        folder.mkdir(exist_ok=True)
        env = {
            "BACKEND_ENDPOINT": f"http://{self.backend}",
            "GATEWAY_LISTEN": self._peers[number],
            "GATEWAY_PEERS": str(self._peers).replace("'", '"'),
            "OTLP_HTTP_LISTEN": self._http[number],
            "QUEUE_DIRECTORY": str(folder / "queue"),
        }
        configs = (GATEWAY, *self._configs)
        with run_collector(self.binary, *configs, env=env, folder=folder) as running:
            wait_until(lambda: is_ok(running.health), "healthy without its backend")
            yield running

    @contextmanager
    def run_both(self) -> Iterator[tuple[Collector, Collector]]:
        """Run both, until each has a connection to itself and to the other."""
        with self.run(0) as first, self.run(1) as second:
            wait_until(lambda: all(send_pods(first)), "connections", limit=30)
            wait_until(lambda: all(send_pods(second)), "connections", limit=30)
            yield first, second


def send_pods(gateway: Collector) -> Iterator[bool]:
    """Send logs of twelve pods, and yield True for each that is accepted."""
    for _ in range(PODS):
        yield SentKill(resource=pod_resource()).send_log(gateway).status == 200


def pod_resource() -> dict[str, str]:
    """Return the resource of a new pod, on the one host of all."""
    return {"host.name": "node-1", "k8s.pod.uid": str(uuid.uuid4())}
