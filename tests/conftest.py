"""Fixtures of all tests, and the tiers that they belong to.

A test needs what its folder or its fixtures need: `root`, `vm`, `servers`. What needs none of them
and is not `slow` is `make check`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from otel_oom.capture.bpf.source import require_prerequisites
from otel_oom.capture.source import CaptureError
from tests.testlib.require import require
from tests.testlib.tiers import FOLDER_TIERS

pytest_plugins = [
    "tests.testlib.telemetry_watch",
    "tests.testlib.fixtures",
    "tests.vmtest.boots",
    "tests.testlib.browser.plugin",
]

_FIXTURE_TIERS: Final = {
    "browser": "slow",
    "collector_binary": "servers",
    "crictl_binary": "servers",
    "crio_binaries": "servers",
    "helm_binary": "servers",
    "jaeger_binary": "servers",
    "node_binary": "servers",
    "prometheus_binary": "servers",
    "promtool_binary": "servers",
    "real_kills": "root",
    "victorialogs_binary": "servers",
    "vmalert_binary": "servers",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the tiers of its folder and of its fixtures."""
    tests = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(tests).parts[0]
        fixtures = getattr(item, "fixturenames", ())
        tiers = {
            *FOLDER_TIERS.get(folder, ()),
            *(tier for fixture, tier in _FIXTURE_TIERS.items() if fixture in fixtures),
        }
        for tier in sorted(tiers):
            item.add_marker(tier)


@pytest.fixture(scope="session")
def real_kills() -> None:
    """Require that this machine can make and capture real kills."""
    require(os.geteuid() == 0, "real kills need root")
    try:
        require_prerequisites()
    except CaptureError as error:
        require(condition=False, reason=str(error))
    require(Path("/dev/kmsg").exists(), "the kernel log is the oracle")
