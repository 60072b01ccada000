"""One boot for each kernel, and what came out of it as a table at the end."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.vmtest import guest, host_kernel
from tests.vmtest.boots import Boots, guest_of
from tests.vmtest.kernels import WANTED, kernel
from tests.vmtest.matrix import Matrix
from tests.vmtest.requirements import unmet
from tests.vmtest.scenario_result import SOURCES, Played

_RUNS: Final = pytest.StashKey[dict[str, guest.Run]]()
_BOOTS: Final = pytest.StashKey[Boots]()
_MATRIX: Final = pytest.StashKey[Matrix]()
_LIMIT_S: Final = 900.0
"""An idle machine takes 30 to 100 s for all scenarios of one kernel; other tests run beside."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make matrix` say which page has the table."""
    parser.addoption("--matrix", type=Path, help="the page to write the kernels' table to")


def boot(name: str, folder: Path) -> guest.Run:
    """Play every scenario on that kernel, in a guest or here."""
    if name == host_kernel.HERE:
        return host_kernel.run("tests.vmtest.guest_main", folder, _LIMIT_S)
    return guest.run(kernel(name), "tests.vmtest.guest_main", folder, _LIMIT_S)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a kernel or this machine cannot play, and note why for the table."""
    items[:] = [item for item in items if not _is_unplayable(config, item)]


def _is_unplayable(config: pytest.Config, item: pytest.Item) -> bool:
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    name, scenario = parameters.get("run"), parameters.get("name")
    if name is None:
        return False
    if item.get_closest_marker("headers") and "headers" not in WANTED.get(name, {}):
        return True
    if scenario is None:
        return name == host_kernel.HERE and item.get_closest_marker("guest_only") is not None
    here = name == host_kernel.HERE
    reason = unmet(scenario) if here else WANTED[name].get("lacks", {}).get(scenario)
    if reason:
        _matrix(config).absent(name, scenario, reason)
    return reason is not None


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin to boot the guests of the tests that are left, once each."""
    if session.config.option.collectonly:
        return
    marks = (mark for item in session.items for mark in item.iter_markers("guest"))
    boots = Boots()
    session.config.stash[_BOOTS] = boots
    boots.start(dict.fromkeys((mark.args[0], mark.args[1]) for mark in marks))


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the guests, also when the tests were interrupted."""
    if boots := config.stash.get(_BOOTS, None):
        boots.close()


@pytest.fixture
def boots(request: pytest.FixtureRequest) -> Boots:
    """The guests of this session."""
    return request.config.stash[_BOOTS]


@pytest.fixture(
    params=[
        *(pytest.param(name, marks=guest_of(boot, name)) for name in WANTED),
        host_kernel.HERE,
    ]
)
def run(request: pytest.FixtureRequest, boots: Boots) -> guest.Run:
    """What came out of that kernel, on which every scenario was played."""
    name = request.param
    if name == host_kernel.HERE:
        request.getfixturevalue("real_kills")
        boots.run_now((boot, name))
    done: guest.Run = boots.result((boot, name))
    request.config.stash.setdefault(_RUNS, {})[name] = done
    if "failed" in done.results:
        boots.fail_once((boot, name), done.results["failed"])
    return done


@pytest.fixture
def played(run: guest.Run, name: str) -> Played:
    """The scenario of that name, as it went on that kernel."""
    value = run.results["scenarios"][name]
    assert "unplayable" not in value, f"kernels.toml does not say that {value['unplayable']}"
    assert "failed" not in value, value["failed"]
    return _parse(run.kernel.name, name, run)


_PARSED: Final[dict[tuple[str, str], Played]] = {}


def _parse(kernel_name: str, name: str, run: guest.Run) -> Played:
    """Read the scenario's results, once for all tests of it."""
    key = kernel_name, name
    if key not in _PARSED:
        _PARSED[key] = Played.from_json(run.results["scenarios"][name])
    return _PARSED[key]


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
    runs = list(config.stash.get(_RUNS, {}).values())
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
