"""The short form of some faults; `make test-faults` injects all of them in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault_injection.fault_list import FAULTS, SHORT_FAULTS, Fault

pytestmark = pytest.mark.usefixtures("real_kills")

SHORT = [fault for fault in FAULTS if fault.name in SHORT_FAULTS]


@pytest.mark.parametrize("fault", SHORT, ids=[fault.name for fault in SHORT])
def test_no_kill_is_lost(fault: Fault, tmp_path: Path) -> None:
    """Each kill that the kernel counts arrives under one uid, whatever happens to the agent."""
    tally = fault.run(tmp_path, short=True)
    assert tally.kills > 0
    assert tally.lost == 0
