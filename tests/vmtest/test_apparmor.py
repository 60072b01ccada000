"""The agent under the AppArmor profile of containers, and under none.

The profile is that of the installed containerd; the kernel's own log has what it has refused.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import convert

from otel_oom.capture.source import PIN_DIR
from otel_oom.model.events import OomKill
from tests.testlib.servers.recipes import BuildError
from tests.vmtest import guest
from tests.vmtest.apparmor import PACKAGES, UNCONFINED
from tests.vmtest.apparmor_profile import PROFILE
from tests.vmtest.boots import Boots, needs_guest
from tests.vmtest.kernels import fetch_kernel
from tests.vmtest.packages import fetch_apparmor

KERNEL: Final = "6.1"
_LIMIT_S: Final = 800.0


def boot(name: str, folder: Path) -> guest.GuestRun:
    """Boot a guest with AppArmor, which Debian's kernels have by default."""
    if not shutil.which("containerd", path="/usr/bin:/usr/sbin"):
        raise BuildError("containerd is not installed, which has the profile")
    (folder / PACKAGES).symlink_to(fetch_apparmor())
    return guest.run_guest(fetch_kernel(name), "tests.vmtest.apparmor", folder, _LIMIT_S)


@pytest.fixture(params=[pytest.param(KERNEL, marks=needs_guest(boot, KERNEL, waits=True))])
def results(boots: Boots, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the results of the guest."""
    return boots.results((boot, request.param))


def lines_of_apparmor(text: str) -> list[str]:
    """Return the lines that name AppArmor."""
    return [line for line in text.splitlines() if "AppArmor" in line]


@pytest.mark.parametrize("profile", [PROFILE, UNCONFINED])
def test_capture_goes_on(results: dict[str, Any], profile: str) -> None:
    """By BPF, each kill that the kernel counts, whatever AppArmor refuses."""
    run = results[profile]
    assert results["enabled"] == "Y\n"
    assert run["label"].partition(" ")[0] == profile
    (event,) = run["stored"]
    kill = convert(event, OomKill)
    assert run["counted"] == 1
    assert kill.victim.tgid == run["pid"]
    assert kill.capture.source == "libbpf"
    assert run["code"] == 0


def test_one_sentence_names_each_refusal_of_the_default_profile(results: dict[str, Any]) -> None:
    """The kernel refuses what the sentence names: writes below bpffs, /proc of others."""
    run = results[PROFILE]
    refused = [record for record in run["refusals"] if f'profile="{PROFILE}"' in record]
    assert any(f'name="{PIN_DIR.parent}/"' in record for record in refused)
    assert any('operation="ptrace"' in record for record in refused)
    assert not run["pins"]
    (line,) = lines_of_apparmor(run["log"])
    what = f"writes below {PIN_DIR.parents[1]} and /proc of other processes"
    assert f"profile {PROFILE} refuses {what}" in line
    assert "aa-status" in line  # how it is lifted where no container runtime runs the agent
    assert f"{PIN_DIR} can't be made" in run["log"]


def test_nothing_is_refused_without_a_profile(results: dict[str, Any]) -> None:
    """The programs are pinned, and nothing speaks of AppArmor."""
    run = results[UNCONFINED]
    assert run["refusals"] == []
    assert lines_of_apparmor(run["log"]) == []
    assert "sched_process_exit" in run["pins"]
