"""Requirements of scenarios on the running kernel, which are checked before anything is played."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otel_oom.linux.process import ProcessDir
from tests.testlib.kernel.memcg import CGROUP_MOUNT
from tests.vmtest.scenario_kills import ScenarioKills

Scenario = Callable[[], ScenarioKills]
Requirement = Callable[[], bool]

GUEST_OPTION: Final = "otel_oom_guest"
"""The option on the kernel command line of a guest that virtme-ng has not booted."""

_CAP_SYS_RESOURCE: Final = 24
_REQUIREMENTS: Final[dict[str, tuple[Requirement, ...]]] = {}

_COMMAND_LINE: Final = Path("/proc/cmdline").read_text(encoding="ascii")
IN_GUEST: Final = "virtme" in _COMMAND_LINE or GUEST_OPTION in _COMMAND_LINE.split()
"""True in a guest, whose kernel command line says so."""


def requires(*requirements: Requirement) -> Callable[[Scenario], Scenario]:
    """Declare the requirements of a scenario; the docstring of each is the reason in the table."""

    def declare(scenario: Scenario) -> Scenario:
        _REQUIREMENTS[scenario.__name__] = requirements
        return scenario

    return declare


def find_unmet(scenario: str) -> str | None:
    """Return the reason why a scenario cannot be played here, or None."""
    reasons = [
        requirement.__doc__ for requirement in _REQUIREMENTS.get(scenario, ()) if not requirement()
    ]
    return reasons[0] if reasons else None


def is_guest() -> bool:
    """it would affect the whole machine"""
    return IN_GUEST


def has_bpftrace() -> bool:
    """bpftrace is not installed"""
    return shutil.which("bpftrace") is not None


def has_cgroup_v2() -> bool:
    """cgroup v1 has no memory.oom.group, and accounts each cgroup separately"""
    return not CGROUP_MOUNT.v1


def can_protect() -> bool:
    """root cannot protect a process here: it lacks CAP_SYS_RESOURCE"""
    status = ProcessDir("self").read_status()
    return status is not None and bool(status.effective_capabilities >> _CAP_SYS_RESOURCE & 1)


def has_several_cpus() -> bool:
    """with one CPU nobody exits while the kernel reports"""
    return os.cpu_count() != 1
