"""The backends that all end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.collector import Collector, run_collector
from tests.testlib.servers.jaeger import Jaeger
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.victorialogs import VictoriaLogs

CONFIGS = REPOSITORY / "collector-config"


@pytest.fixture(scope="package")
def backends(
    collector_binary: Path,
    jaeger: Jaeger,
    loki_receiver: LokiReceiver,
    victorialogs: VictoriaLogs,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Collector]:
    """Run a Collector with the project's own configurations for Jaeger, Loki and VictoriaLogs."""
    environ = {
        "JAEGER_URL": jaeger.http,
        "LOKI_URL": loki_receiver.url,
        "VICTORIALOGS_URL": victorialogs.url,
        "QUEUE_DIRECTORY": str(tmp_path_factory.mktemp("queue")),
    }
    files = [CONFIGS / f"{name}.yaml" for name in ("jaeger", "loki", "victorialogs")]
    with run_collector(collector_binary, *files, env=environ) as running:
        yield running
