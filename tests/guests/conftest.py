"""One boot for each kernel, and what it was is told at the end."""

from __future__ import annotations

from typing import Final

import pytest

from tests.guests import guest
from tests.guests.kernels import WANTED, kernel
from tests.parts.need import need
from tests.parts.recipes import BuildError

_RUNS: Final = pytest.StashKey[list[guest.Run]]()
_LIMIT_S: Final = 400.0
"""An idle machine takes 30 to 100 s for all scenarios of one kernel."""


@pytest.fixture(scope="session", params=list(WANTED))
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> guest.Run:
    """What came out of a guest of that kernel, in which every scenario was played."""
    missing = guest.missing()
    need(not missing, str(missing))
    try:
        wanted = kernel(request.param)
    except BuildError as error:
        need(condition=False, reason=str(error))
        raise  # not reached
    folder = tmp_path_factory.mktemp("guest")
    done = guest.run(wanted, "tests.guests.inside", folder, _LIMIT_S)
    request.config.stash.setdefault(_RUNS, []).append(done)
    if "failed" in done.results:
        pytest.fail(f"{wanted.release}: {done.results['failed']}", pytrace=False)
    return done


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which kernels they were: the newest of a series is another one every few weeks."""
    runs = config.stash.get(_RUNS, [])
    if runs:
        terminalreporter.section("kernels")
    for done in runs:
        programs = done.results.get("verified_insns")
        terminalreporter.write_line(
            f"{done.kernel.release} ({done.kernel.version}): "
            f"booted in {done.boot_s:.0f} s{' at the second try' if done.hangs else ''}, "
            f"{done.total_s:.0f} s in all, {done.results.get('hook', 'not attached')}, "
            f"{done.results.get('context') or 'no context'}, "
            f"instructions verified: {max(programs) if programs else 'not told'}"
        )
