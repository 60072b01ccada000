"""Requirements of scenarios, asked of the running kernel before anything is played."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otel_oom.linux.process import ProcessDir
from tests.testlib.kernel.memcg import CGROUP_MOUNT
from tests.vmtest.scenario_kills import Made

Scenario = Callable[[], Made]
Requirement = Callable[[], bool]

_CAP_SYS_RESOURCE: Final = 24
_REQUIREMENTS: Final[dict[str, tuple[Requirement, ...]]] = {}

IN_GUEST: Final = "virtme" in Path("/proc/cmdline").read_text(encoding="ascii")
"""The machine's own command line has no word of virtme-ng."""


def requires(*requirements: Requirement) -> Callable[[Scenario], Scenario]:
    """Declare what a scenario cannot do without; the reason is the requirement's docstring."""

    def declare(scenario: Scenario) -> Scenario:
        _REQUIREMENTS[scenario.__name__] = requirements
        return scenario

    return declare


def unmet(scenario: str) -> str | None:
    """Return why a scenario cannot be played on this kernel and machine, or None if it can."""
    reasons = [each.__doc__ for each in _REQUIREMENTS.get(scenario, ()) if not each()]
    return reasons[0] if reasons else None


def a_guest() -> bool:
    """it would affect the whole machine"""
    return IN_GUEST


def cgroup_v2() -> bool:
    """cgroup v1 has no memory.oom.group, and accounts each cgroup separately"""
    return not CGROUP_MOUNT.v1


def protection() -> bool:
    """root cannot protect a process here: it lacks CAP_SYS_RESOURCE"""
    status = ProcessDir("self").read_status()
    return status is not None and bool(status.effective_capabilities >> _CAP_SYS_RESOURCE & 1)


def several_cpus() -> bool:
    """with one CPU nobody exits while the kernel reports"""
    return os.cpu_count() != 1
