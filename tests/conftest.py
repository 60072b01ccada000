"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_oom.capture.bpf.source import require_prerequisites
from otel_oom.capture.source import CaptureError
from tests.testlib.need import need

pytest_plugins = ["tests.testlib.fixtures"]


@pytest.fixture(scope="session")
def real_kills() -> None:
    """Real kills can be made and captured on this machine."""
    need(os.geteuid() == 0, "real kills need root")
    try:
        require_prerequisites()
    except CaptureError as error:
        need(condition=False, reason=str(error))
    need(Path("/dev/kmsg").exists(), "the kernel log is the oracle")
