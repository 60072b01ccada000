"""Real servers as pytest fixtures: `pytest_plugins = ["tests.testlib.fixtures"]`.

All tests of a session share a server, so each test finds its own telemetry by a service name or a
trace id of its own. A test starts its own Collector, with its configuration:
`with run_collector(collector_binary, …)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testlib.require import require
from tests.testlib.servers import build
from tests.testlib.servers.jaeger import Jaeger, run_jaeger
from tests.testlib.servers.loki_entry import read_documented_labels
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.recorder import Recorder, run_recorder
from tests.testlib.servers.victorialogs import VictoriaLogs, run_victorialogs


def _binary(name: str) -> Path:
    try:
        return build.build_binary(name)
    except build.BuildError as error:
        require(condition=False, reason=str(error))
        raise  # not reached


@pytest.fixture(scope="session")
def collector_binary() -> Path:
    """Return the path of a Collector with the components of versions.toml."""
    return _binary("collector")


@pytest.fixture(scope="session")
def crictl_binary() -> Path:
    """Return the path of crictl, the client of Kubernetes' runtime interface."""
    return _binary("crictl")


@pytest.fixture(scope="session")
def crio_binaries() -> tuple[Path, Path]:
    """Return the paths of CRI-O and of its helper pinns."""
    return _binary("crio"), _binary("pinns")


@pytest.fixture(scope="session")
def helm_binary() -> Path:
    """Return the path of Helm."""
    return _binary("helm")


@pytest.fixture(scope="session")
def node_binary() -> Path:
    """Return the path of the program of all parts of Kubernetes."""
    return _binary("node")


@pytest.fixture(scope="session")
def jaeger_binary() -> Path:
    """Return the path of Jaeger."""
    return _binary("jaeger")


@pytest.fixture(scope="session")
def prometheus_binary() -> Path:
    """Return the path of Prometheus."""
    return _binary("prometheus")


@pytest.fixture(scope="session")
def promtool_binary() -> Path:
    """Return the path of promtool, which checks metrics and rules."""
    return _binary("promtool")


@pytest.fixture(scope="session")
def victorialogs_binary() -> Path:
    """Return the path of VictoriaLogs."""
    return _binary("victorialogs")


@pytest.fixture(scope="session")
def vmalert_binary() -> Path:
    """Return the path of vmalert, which evaluates rules on VictoriaLogs."""
    return _binary("vmalert")


@pytest.fixture
def recorder(collector_binary: Path) -> Iterator[Recorder]:
    """Run an empty backend of the test's own that records all telemetry."""
    with run_recorder(collector_binary) as server:
        yield server


@pytest.fixture(scope="session")
def jaeger(jaeger_binary: Path) -> Iterator[Jaeger]:
    """Run Jaeger."""
    with run_jaeger(jaeger_binary) as server:
        yield server


@pytest.fixture(scope="session")
def victorialogs(victorialogs_binary: Path) -> Iterator[VictoriaLogs]:
    """Run VictoriaLogs."""
    with run_victorialogs(victorialogs_binary) as server:
        yield server


@pytest.fixture(scope="session")
def loki_receiver() -> Iterator[LokiReceiver]:
    """Run a receiver with Loki's path, mapping and limits, and the labels of `loki.yaml`."""
    with LokiReceiver(index_labels=read_documented_labels()) as server:
        yield server
