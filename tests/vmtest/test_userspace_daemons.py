"""A host with systemd, on which systemd-oomd, earlyoom and oomd kill for real, one after another.

What each said, the journal has; what died, systemd saw. The agent's part runs for the first two,
and is started again after the third.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import convert

from otel_oom.enrich.event import enrich_userspace_kill
from otel_oom.model.events import UserspaceKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.otlp.userspace_kill import userspace_attributes
from tests.testlib.samples.events import HOST
from tests.vmtest import guest
from tests.vmtest.boots import Boots, guest_of
from tests.vmtest.kernels import kernel
from tests.vmtest.packages import KILLERS, unpacked
from tests.vmtest.userspace_daemons import PACKAGES

_KERNEL: Final = "6.1"
"""That of the suite which has these packages."""
_LIMIT_S: Final = 400.0
_MIB: Final = 1 << 20

every_killer = pytest.mark.parametrize("killer", KILLERS)


def boot(name: str, folder: Path) -> guest.Run:
    """Boot a guest with systemd and the daemons."""
    booted = kernel(name)
    (folder / PACKAGES).symlink_to(unpacked())
    module = "tests.vmtest.userspace_daemons"
    return guest.run(booted, module, folder, _LIMIT_S, by_systemd=True)


@pytest.fixture(params=[pytest.param(_KERNEL, marks=guest_of(boot, _KERNEL))])
def results(boots: Boots, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What came out of the guest."""
    done: guest.Run = boots.result((boot, request.param))
    if "failed" in done.results:
        pytest.fail(f"{done.results['failed']}\n{done.results['journal']}", pytrace=False)
    return done.results


def made(results: dict[str, Any], killer: str) -> dict[str, Any]:
    """The kill by that killer, as it was made."""
    (found,) = (one for one in results["made"] if one["killer"] == killer)
    return dict(found)


def told(results: dict[str, Any], killer: str) -> tuple[UserspaceKill, Snapshot]:
    """The one kill by that killer, as it was told."""
    (one,) = (
        one
        for one in results["running"] + results["late"]
        if one["event"]["killer"]["name"] == killer
    )
    return convert(one["event"], UserspaceKill), convert(one["witness"], Snapshot)


@every_killer
def test_it_is_told_in_its_own_words(results: dict[str, Any], killer: str) -> None:
    """The line that the journal has of it, at the time that the journal has, and nothing else."""
    event, _ = told(results, killer)
    (line,) = (line for line in results["journal"].splitlines() if event.original in line)
    assert re.search(rf" {killer}\[\d+\]: ", line)
    # The journal tells when it took a line, which may have been sent a moment before.
    assert 0 <= float(line.split()[0]) - event.time_unix_ns / 10**9 < 60
    assert len(results["running"]) + len(results["late"]) == len(KILLERS)


def test_systemd_oomd_kills_a_cgroup(results: dict[str, Any]) -> None:
    """Which one and for whose pressure, with the bound that its unit has set; and no process."""
    event, _ = told(results, "systemd-oomd")
    assert event.victim is None
    assert event.memcg is not None
    assert event.memcg.path == made(results, "systemd-oomd")["memcg"]
    assert (event.killer.reason, event.killer.memcg) == ("memory_pressure", "/pressed.slice")
    assert event.killer.limit == pytest.approx(1.0)
    assert event.killer.pressure is not None
    assert event.killer.pressure > 1.0


def test_earlyoom_kills_a_process(results: dict[str, Any]) -> None:
    """The largest, with what it held; its cgroup is seen where it lives for a moment longer."""
    event, _ = told(results, "earlyoom")
    kill = made(results, "earlyoom")
    assert event.victim is not None
    assert event.victim.tgid == kill["pid"]
    assert (event.killer.signal, event.killer.reason) == ("SIGTERM", "memory_available")
    assert event.resident is not None
    assert event.resident >= 400 * _MIB
    assert event.memcg is None or event.memcg.path == kill["memcg"]
    assert event.killer.limit == kill["percent"]


def test_oomd_kills_a_cgroup_by_its_rule(results: dict[str, Any]) -> None:
    """Found by the next start, and marked as late."""
    event, _ = told(results, "oomd")
    assert event.victim is None
    assert event.memcg is not None
    assert event.memcg.path == made(results, "oomd")["memcg"]
    assert event.killer.rule == "too large (kill_by_memory_size_or_growth)"
    assert event.usage is not None
    assert event.usage >= 32 * _MIB
    assert [one["event"]["killer"]["name"] for one in results["late"]] == ["oomd"]
    assert event.capture.recovered


@every_killer
def test_systemd_saw_it_die(results: dict[str, Any], killer: str) -> None:
    """The victim's unit ended as systemd has it of such a killer; SIGTERM is no failure to it."""
    ends = {"systemd-oomd": "oom-kill", "earlyoom": "success", "oomd": "signal"}
    assert made(results, killer)["result"] == ends[killer]


def test_the_kernels_count_has_none_of_them(results: dict[str, Any]) -> None:
    """All are on the disk, and none is held against what the kernel counts."""
    stored = [convert(one, UserspaceKill) for one in results["stored"]]
    assert [event.killer.name for event in stored] == [*KILLERS]
    assert len({event.uid for event in stored}) == len(KILLERS)
    assert results["account"]["told"] == 0


@every_killer
def test_the_unit_is_the_service(results: dict[str, Any], killer: str) -> None:
    """Its attributes name the unit, where its cgroup is known."""
    event, witness = told(results, killer)
    kill = made(results, killer)
    enriched = enrich_userspace_kill(event, witness, 0, HOST)
    attributes = userspace_attributes(enriched)
    assert attributes["oom.killer.name"] == killer
    if event.memcg:
        assert attributes["oom.victim.systemd.unit"] == Path(kill["memcg"]).name
        assert enriched.resource["service.name"] == Path(kill["memcg"]).stem
