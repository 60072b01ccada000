"""One machine for each kernel, and the table of its results at the end."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.vmtest.boots import Boots, Key, needs_guest
from tests.vmtest.guest import GuestRun
from tests.vmtest.host_kernel import HOST_KERNEL, play_here
from tests.vmtest.kernels import KERNELS
from tests.vmtest.machine import Machine, boot_machine
from tests.vmtest.matrix import Matrix
from tests.vmtest.requirements import find_unmet
from tests.vmtest.scenario_result import SOURCES, ScenarioResult, SourceEvents

_RUNS: Final = pytest.StashKey[dict[str, GuestRun]]()
_MATRIX: Final = pytest.StashKey[Matrix]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which `make matrix` names the page of the table."""
    parser.addoption("--matrix", type=Path, help="the page to write the kernels' table to")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a kernel or this machine cannot play; note the reason for the table."""
    items[:] = [item for item in items if not _is_unplayable(config, item)]


def _is_unplayable(config: pytest.Config, item: pytest.Item) -> bool:
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    name, scenario = parameters.get("guest_run"), parameters.get("scenario")
    if name is None:
        return False
    if item.get_closest_marker("headers") and "headers" not in KERNELS.get(name, {}):
        return True
    if scenario is None:
        return name == HOST_KERNEL and item.get_closest_marker("guest_only") is not None
    here = name == HOST_KERNEL
    reason = find_unmet(scenario) if here else KERNELS[name].get("lacks", {}).get(scenario)
    if reason:
        _matrix(config).add_absence(name, scenario, reason)
    return reason is not None


@pytest.fixture(
    params=[
        *(pytest.param(name, marks=needs_guest(boot_machine, name)) for name in KERNELS),
        HOST_KERNEL,
    ]
)
def guest_run(request: pytest.FixtureRequest, boots: Boots) -> GuestRun:
    """Return the results of a kernel on which all scenarios were played."""
    name = request.param
    if name == HOST_KERNEL:
        request.getfixturevalue("real_kills")
        key: Key = (play_here, name)
        boots.run_now(key)
        run: GuestRun = boots.result(key)
    else:
        key = boot_machine, name
        machine: Machine = boots.result(key)
        run = machine.scenarios
    request.config.stash.setdefault(_RUNS, {})[name] = run
    if "failed" in run.results:
        boots.fail_once(key, run.results["failed"])
    return run


@pytest.fixture
def result(guest_run: GuestRun, scenario: str, boots: Boots) -> ScenarioResult:
    """Return the results of a scenario on a kernel."""
    value = guest_run.results["scenarios"][scenario]
    assert "not_playable" not in value, f"kernels.toml does not say that {value['not_playable']}"
    key = guest_run.kernel.name, scenario
    if "failed" in value:
        boots.fail_once((boot_machine, " ".join(key)), value["failed"])
    if key not in _PARSED:
        _PARSED[key] = ScenarioResult.from_json(value)
    return _PARSED[key]


@pytest.fixture
def events(result: ScenarioResult, source: str) -> SourceEvents:
    """Return the events of that source."""
    return result.events[source]


_PARSED: Final[dict[tuple[str, str], ScenarioResult]] = {}
"""Parsed once for all tests of a scenario."""


def _matrix(config: pytest.Config) -> Matrix:
    return config.stash.setdefault(_MATRIX, Matrix())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, Any]:
    """Note the result of each test: of its source, or of both where it names none."""
    report = yield
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    if {"guest_run", "scenario"} <= parameters.keys() and (report.when == "call" or report.failed):
        for source in [parameters["source"]] if "source" in parameters else SOURCES:
            _matrix(item.config).add_result(
                parameters["guest_run"], parameters["scenario"], source, passed=report.passed
            )
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the kernels and the result of each scenario on each.

    The newest of a series changes every few weeks.
    """
    runs = list(config.stash.get(_RUNS, {}).values())
    if not runs:
        return
    terminalreporter.section("kernels")
    for done in runs:
        verified = {
            program["name"]: program["verified_insns"]
            for program in done.results.get("programs", [])
        }
        instructions = ", ".join(f"{name} {count}" for name, count in verified.items() if count)
        terminalreporter.write_line(
            f"{done.kernel.release} ({done.kernel.version}): "
            f"booted in {done.boot_s:.0f} s{' at the second try' if done.hangs else ''}, "
            f"{done.total_s:.0f} s in all, {done.results.get('hook', 'not attached')}, "
            f"{done.results.get('decision_source') or 'no decision hook'}, "
            f"instructions verified: {instructions or 'unknown'}, "
            f"runs skipped: {done.results.get('recursion_misses', 'unknown')}"
        )
    matrix = _matrix(config)
    kernels = {done.kernel.name: done.kernel.release for done in runs}
    terminalreporter.section("kernel x scenario x source")
    terminalreporter.write(matrix.markdown(kernels))
    page = config.getoption("matrix", default=None)
    if page is not None:
        terminalreporter.write_line(matrix.write(page, kernels))
