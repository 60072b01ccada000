"""One boot for each kernel, and what came out of it as a table at the end."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.testlib.need import need
from tests.testlib.servers.recipes import BuildError
from tests.vmtest import guest, host_kernel
from tests.vmtest.kernels import WANTED, kernel
from tests.vmtest.matrix import Matrix
from tests.vmtest.scenario_result import SOURCES, Played

_RUNS: Final = pytest.StashKey[list[guest.Run]]()
_MATRIX: Final = pytest.StashKey[Matrix]()
_LIMIT_S: Final = 400.0
"""An idle machine takes 30 to 100 s for all scenarios of one kernel."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make matrix` say which page has the table."""
    parser.addoption("--matrix", type=Path, help="the page to write the kernels' table to")


@pytest.fixture(scope="session", params=[*WANTED, host_kernel.HERE])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> guest.Run:
    """What came out of that kernel, on which every scenario was played."""
    folder = tmp_path_factory.mktemp("guest")
    if request.param == host_kernel.HERE:
        request.getfixturevalue("real_kills")
        done = host_kernel.run("tests.vmtest.guest_main", folder, _LIMIT_S)
    else:
        missing = guest.missing()
        need(not missing, str(missing))
        try:
            wanted = kernel(request.param)
        except BuildError as error:
            need(condition=False, reason=str(error))
            raise  # not reached
        done = guest.run(wanted, "tests.vmtest.guest_main", folder, _LIMIT_S)
    request.config.stash.setdefault(_RUNS, []).append(done)
    if "failed" in done.results:
        pytest.fail(f"{done.kernel.release}: {done.results['failed']}", pytrace=False)
    return done


@pytest.fixture
def played(request: pytest.FixtureRequest, run: guest.Run, name: str) -> Played:
    """The scenario of that name, as it went on that kernel."""
    value = run.results["scenarios"][name]
    if reason := value.get("unplayable"):
        _matrix(request.config).absent(run.kernel.name, name, reason)
        pytest.skip(f"not made on {run.kernel.release}: the table has the reasons")
    assert "failed" not in value, value["failed"]
    return Played.from_json(value)


def _matrix(config: pytest.Config) -> Matrix:
    return config.stash.setdefault(_MATRIX, Matrix())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    """Note each judgement: of one source, or of both where it names none."""
    report = yield
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    if {"run", "name"} <= parameters.keys() and (report.when == "call" or report.failed):
        for source in [parameters["source"]] if "source" in parameters else SOURCES:
            _matrix(item.config).judged(
                parameters["run"], parameters["name"], source, passed=report.passed
            )
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say which kernels they were, and how each scenario went on each.

    The newest of a series is another one every few weeks.
    """
    runs = config.stash.get(_RUNS, [])
    if not runs:
        return
    terminalreporter.section("kernels")
    for done in runs:
        verified = {
            program["name"]: program["verified_insns"]
            for program in done.results.get("programs", [])
        }
        told = ", ".join(f"{name} {count}" for name, count in verified.items() if count)
        terminalreporter.write_line(
            f"{done.kernel.release} ({done.kernel.version}): "
            f"booted in {done.boot_s:.0f} s{' at the second try' if done.hangs else ''}, "
            f"{done.total_s:.0f} s in all, {done.results.get('hook', 'not attached')}, "
            f"{done.results.get('decision_source') or 'no decision hook'}, "
            f"instructions verified: {told or 'not told'}, "
            f"runs left out: {done.results.get('left_out', 'not told')}"
        )
    matrix = _matrix(config)
    kernels = {done.kernel.name: done.kernel.release for done in runs}
    terminalreporter.section("kernel x scenario x source")
    terminalreporter.write(matrix.markdown(kernels))
    page = config.getoption("matrix", default=None)
    if page is not None:
        terminalreporter.write_line(matrix.write(page, kernels))
