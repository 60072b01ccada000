"""The ring buffer is shared among tenants: one in a loop of kills leaves space for the others."""

from __future__ import annotations

import pytest

from otel_oom.capture.bpf.source import LibbpfSource
from tests.testlib.kernel.ring_storm import RING_BYTES, check_ring_share

pytestmark = pytest.mark.usefixtures("real_kills")


def test_quiet_tenants_kill_is_complete_beside_a_storm() -> None:
    with LibbpfSource(RING_BYTES) as source:
        check_ring_share(source)
