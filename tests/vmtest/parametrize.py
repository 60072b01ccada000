"""Parameters of the tests that check all scenarios."""

from __future__ import annotations

from typing import Final

import pytest

from tests.vmtest.scenario_result import SOURCES
from tests.vmtest.scenarios import SCENARIOS

_MARKING: Final = [name for name in SCENARIOS if name != "skipped"]
_KILLING: Final = [name for name in _MARKING if name != "nobody"]

every_mark = pytest.mark.parametrize("scenario", _MARKING)
every_kill = pytest.mark.parametrize("scenario", _KILLING)
by_both = pytest.mark.parametrize("source", SOURCES)
by_bpf = pytest.mark.parametrize("source", ["libbpf"])
