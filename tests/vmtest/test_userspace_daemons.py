"""systemd-oomd, earlyoom and oomd kill for real, one after another, on a host with systemd.

The journal has their messages; systemd has the victims' ends. The agent's part runs for the first
two, and is started again after the third.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import convert
from msgspec.structs import replace

from otel_oom.enrich.event import enrich_userspace_kill
from otel_oom.model.events import UserspaceKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.otlp.userspace_kill import userspace_attributes
from tests.testlib.evidence import check_evidence
from tests.testlib.samples.events import HOST
from tests.testlib.samples.replay_logs import replay
from tests.vmtest import guest
from tests.vmtest.boots import Boots, needs_guest
from tests.vmtest.kernels import fetch_kernel
from tests.vmtest.packages import DAEMONS, fetch_daemons
from tests.vmtest.userspace_daemons import PACKAGES

_KERNEL: Final = "6.1"
"""The kernel of the suite that has these packages."""
_LIMIT_S: Final = 400.0
_MIB: Final = 1 << 20

every_daemon = pytest.mark.parametrize("killer", DAEMONS)


def boot(name: str, folder: Path) -> guest.GuestRun:
    """Boot a guest with systemd and the daemons."""
    booted = fetch_kernel(name)
    (folder / PACKAGES).symlink_to(fetch_daemons())
    module = "tests.vmtest.userspace_daemons"
    return guest.run_guest(booted, module, folder, _LIMIT_S, by_systemd=True)


@pytest.fixture(params=[pytest.param(_KERNEL, marks=needs_guest(boot, _KERNEL))])
def results(boots: Boots, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the results of the guest."""
    return boots.results((boot, request.param))


def find_kill(results: dict[str, Any], killer: str) -> dict[str, Any]:
    """Return the kill by that daemon, as it was made."""
    (kill,) = (kill for kill in results["made"] if kill["killer"] == killer)
    return dict(kill)


def find_event(results: dict[str, Any], killer: str) -> tuple[UserspaceKill, Snapshot]:
    """Return the one captured kill by that daemon, with its snapshot."""
    (captured,) = (
        captured
        for captured in results["running"] + results["recovered"]
        if captured["event"]["killer"]["name"] == killer
    )
    return convert(captured["event"], UserspaceKill), convert(captured["snapshot"], Snapshot)


@every_daemon
def test_each_kill_has_the_daemons_own_message(results: dict[str, Any], killer: str) -> None:
    """The journal's line, at its time, and nothing else."""
    event, _ = find_event(results, killer)
    (line,) = (line for line in results["journal"].splitlines() if event.original in line)
    assert re.search(rf" {killer}\[\d+\]: ", line)
    # The journal's time is that of its receipt, a moment after the message was sent.
    assert 0 <= float(line.split()[0]) - event.time_unix_ns / 10**9 < 60
    assert len(results["running"]) + len(results["recovered"]) == len(DAEMONS)


def test_systemd_oomd_kills_a_cgroup(results: dict[str, Any]) -> None:
    """The pressure of its slice, the limit of its unit, and the process that its signal ended."""
    event, _ = find_event(results, "systemd-oomd")
    assert event.victim is None
    assert event.memcg is not None
    kill = find_kill(results, "systemd-oomd")
    assert event.memcg.path == kill["memcg"]
    # By the signal alone: this version has no hook.
    assert event.tasks is not None
    (task,) = event.tasks.largest
    assert (task.tgid, task.memcg) == (kill["pid"], kill["memcg"])
    assert task.comm.startswith("python")
    assert task.resident > 8 * _MIB
    assert (event.killer.reason, event.killer.memcg) == ("memory_pressure", "/pressed.slice")
    assert event.killer.limit == pytest.approx(1.0)
    assert event.killer.pressure is not None
    assert event.killer.pressure > 1.0


def test_earlyoom_kills_a_process(results: dict[str, Any]) -> None:
    """The largest, with its memory; its cgroup where the process lives a moment longer."""
    event, _ = find_event(results, "earlyoom")
    kill = find_kill(results, "earlyoom")
    assert event.victim is not None
    assert event.victim.tgid == kill["pid"]
    assert (event.killer.signal, event.killer.reason) == ("SIGTERM", "memory_available")
    assert event.resident is not None
    assert event.resident >= 400 * _MIB
    assert event.memcg is None or event.memcg.path == kill["memcg"]
    assert event.killer.limit == kill["percent"]


@pytest.mark.parametrize(
    ("killer", "cause"), [("earlyoom", "host_memory"), ("systemd-oomd", "unknown")]
)
def test_the_cause_is_by_the_daemons_reason(
    results: dict[str, Any], killer: str, cause: str
) -> None:
    """Once a death has confirmed its message."""
    event, snapshot = find_event(results, killer)
    enriched = enrich_userspace_kill(replace(event, verified=True), snapshot, 0, HOST)
    attributes = userspace_attributes(enriched)
    assert attributes["oom.cause"] == cause
    assert ("oom.killer.reason" in check_evidence(attributes)) == (cause == "host_memory")


def test_oomd_kills_a_cgroup_by_its_rule(results: dict[str, Any]) -> None:
    """Found by the next start, and marked as recovered."""
    event, _ = find_event(results, "oomd")
    assert event.victim is None
    assert event.memcg is not None
    assert event.memcg.path == find_kill(results, "oomd")["memcg"]
    assert event.killer.rule == "too large (kill_by_memory_size_or_growth)"
    assert event.usage is not None
    assert event.usage >= 32 * _MIB
    assert [captured["event"]["killer"]["name"] for captured in results["recovered"]] == ["oomd"]
    assert event.capture.recovered


def test_deaths_verify_kills(results: dict[str, Any]) -> None:
    """The cgroup has no living process; the process exits, where it was there to be watched."""
    by_cgroup, _ = find_event(results, "systemd-oomd")
    assert by_cgroup.verified
    by_process, _ = find_event(results, "earlyoom")
    assert by_process.verified or by_process.awaited_start_ns is not None
    exits = [exit_ for exit_ in results["exits"] if exit_["kill_uid"] == by_process.uid]
    assert len(exits) == (by_process.awaited_start_ns is not None)
    later, _ = find_event(results, "oomd")
    assert not later.verified


@every_daemon
def test_the_victims_unit_ended(results: dict[str, Any], killer: str) -> None:
    """By the reason of each daemon; SIGTERM is no failure for systemd."""
    ends = {"systemd-oomd": "oom-kill", "earlyoom": "success", "oomd": "signal"}
    assert find_kill(results, killer)["result"] == ends[killer]


@every_daemon
def test_replay_finds_the_kill_in_the_journals_text(results: dict[str, Any], killer: str) -> None:
    """The one that was captured live, with all that the message has."""
    event, _ = find_event(results, killer)
    (found,) = (
        kill
        for kill in replay(results["journal"].splitlines())
        if isinstance(kill, UserspaceKill) and kill.killer.name == killer
    )
    assert (found.killer, found.original) == (event.killer, event.original)
    assert (found.resident, found.usage, found.completed) == (
        *(event.resident, event.usage, event.completed),
    )
    if event.victim:
        assert found.victim is not None
        assert found.victim.tgid == event.victim.tgid
    else:
        assert found.memcg is not None
        assert found.memcg.path == find_kill(results, killer)["memcg"]
    assert abs(found.time_unix_ns - event.time_unix_ns) < 60 * 10**9


def test_the_kernel_counts_none_of_these_kills(results: dict[str, Any]) -> None:
    """All are stored, and none is compared with the kernel's count."""
    stored = [convert(event, UserspaceKill) for event in results["stored"]]
    assert sorted(event.killer.name for event in stored) == sorted(DAEMONS)
    assert len({event.uid for event in stored}) == len(DAEMONS)
    assert results["tally"]["recorded"] == 0


@every_daemon
def test_the_victims_unit_is_the_service(results: dict[str, Any], killer: str) -> None:
    """Its attributes name the unit, where its cgroup is known."""
    event, snapshot = find_event(results, killer)
    kill = find_kill(results, killer)
    enriched = enrich_userspace_kill(event, snapshot, 0, HOST)
    attributes = userspace_attributes(enriched)
    assert attributes["oom.killer.name"] == killer
    if event.memcg:
        assert attributes["oom.victim.systemd.unit"] == Path(kill["memcg"]).name
        assert enriched.resource["service.name"] == Path(kill["memcg"]).stem
