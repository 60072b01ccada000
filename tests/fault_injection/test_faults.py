"""A short form of some faults: `make test-faults` plays all of them in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault_injection.fault_list import FAULTS, TESTED, Fault

pytestmark = pytest.mark.usefixtures("real_kills")

SHORT = [fault for fault in FAULTS if fault.name in TESTED]


@pytest.mark.parametrize("fault", SHORT, ids=[fault.name for fault in SHORT])
def test_nothing_is_lost(fault: Fault, tmp_path: Path) -> None:
    """Each kill that the kernel counts is told, under one uid, whatever happens to the agent."""
    tally = fault.run(tmp_path, short=True)
    assert tally.kills > 0
    assert tally.lost == 0
