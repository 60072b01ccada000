"""The backends that all end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testlib.repository import REPOSITORY
from tests.testlib.servers.collector import Collector, collector
from tests.testlib.servers.jaeger import Jaeger
from tests.testlib.servers.loki import Loki

CONFIGS = REPOSITORY / "collector-config"


@pytest.fixture(scope="package")
def backends(collector_binary: Path, jaeger: Jaeger, loki: Loki) -> Iterator[Collector]:
    """A Collector with the project's own configurations for Jaeger and Loki."""
    environ = {"JAEGER_URL": jaeger.http, "LOKI_URL": loki.url}
    files = (CONFIGS / "jaeger.yaml", CONFIGS / "loki.yaml")
    with collector(collector_binary, *files, env=environ) as running:
        yield running
