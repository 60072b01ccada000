"""Debian's newest systemd-oomd, earlyoom and nohang kill for real, with that suite's systemd.

systemd-oomd kills by swap, by two rules and by pressure, one after another. Then that of Debian's
stable suite kills by swap and by pressure.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import convert

from otel_oom.commands.doctor.units import find_unrecorded
from otel_oom.linux.systemd.unit_kills import UnitKills
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.types import UserspaceOomDaemon
from tests.testlib.debian.roots import debian_root
from tests.testlib.samples.replay_logs import replay
from tests.vmtest import guest
from tests.vmtest.boots import Boots, needs_guest
from tests.vmtest.hook_service import MARK
from tests.vmtest.kernels import fetch_kernel
from tests.vmtest.newest_daemons import STABLE

_KERNEL: Final = "6.1"
_SUITE: Final = "sid"
_STABLE_SUITE: Final = "trixie"
_PACKAGES: Final = ("dbus", "earlyoom", "nohang", "systemd", "systemd-oomd", "systemd-sysv")
_LIMIT_S: Final = 400.0
_MIB: Final = 1 << 20
_BY_STABLE: Final = {4, 5}
_HOOKED: Final = 3
"""The first kills, which wait for the hook."""


def boot(name: str, folder: Path) -> guest.GuestRun:
    """Boot a guest with the newest systemd and the daemons."""
    root = debian_root(_SUITE, *_PACKAGES)
    (folder / STABLE).symlink_to(debian_root(_STABLE_SUITE, "systemd-oomd"))
    module = "tests.vmtest.newest_daemons"
    return guest.run_guest(fetch_kernel(name), module, folder, _LIMIT_S, by_systemd=True, root=root)


@pytest.fixture(params=[pytest.param(_KERNEL, marks=needs_guest(boot, _KERNEL))])
def results(boots: Boots, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the results of the guest."""
    return boots.results((boot, request.param))


def find_kill(results: dict[str, Any], index: int) -> tuple[dict[str, Any], UserspaceKill]:
    """Return a kill as it was made, and the event that was captured of it."""
    return results["made"][index], convert(results["captured"][index]["event"], UserspaceKill)


def test_each_kill_is_one_event(results: dict[str, Any]) -> None:
    """Also of a rule, which acts again on its emptied cgroup while the pressure lasts."""
    captured = [
        (one["event"]["killer"]["name"], one["event"]["killer"]["rule"])
        for one in results["captured"]
    ]
    oomd = "systemd-oomd"
    by_rule, others = [(oomd, "heavy"), (oomd, "busiest")], [("earlyoom", None), ("nohang", None)]
    assert captured == [(oomd, None), *by_rule, *[(oomd, None)] * 3, *others]
    assert int(results["version"].split()[1]) >= 261


@pytest.mark.parametrize("index", range(6))
def test_systemd_oomd_kills_a_cgroup(results: dict[str, Any], index: int) -> None:
    """Each by its cause, with the cgroup; the rule's too, which the journal alone cannot name.

    Its process is known by the signal, with a hook, without one, and of a version without hooks.
    """
    made, event = find_kill(results, index)
    assert event.killer.name == made["killer"] == "systemd-oomd"
    assert event.memcg is not None
    cause, _, rule = made["reason"].partition(" ")
    # The action kill-all kills the rule's own cgroup, whose service then ends by a signal.
    is_whole = rule == "heavy"
    assert event.memcg.path == (
        Path(made["memcg"]).parent.as_posix() if is_whole else made["memcg"]
    )
    assert made["result"] == ("signal" if is_whole else "oom-kill")
    # The guest's holder has 24 MiB of its memory resident.
    assert event.tasks is not None
    (task,) = event.tasks.largest
    assert (task.tgid, task.comm) == (made["pid"], "python3")
    assert task.resident > 8 * _MIB
    assert event.verified
    if cause == "rule":
        assert (event.killer.rule, event.completed) == (rule, True)
        assert event.original.startswith(f"Rule '{rule}' conditions met for cgroup ")
    else:
        assert event.killer.reason == {"swap_used": "memory_used"}.get(cause, cause)
        # Before the kill since systemd 260; 257 reports it after the kill.
        assert event.original.startswith("Killed " if index in _BY_STABLE else "Marked ")


def test_the_shipped_unit_answers_the_hook(results: dict[str, Any]) -> None:
    """Its user may not write to the folder of the hooks; each call gets a list before the kill."""
    listed = [
        json.loads(line.partition(MARK)[2])
        for line in results["journal"].splitlines()
        if MARK in line
    ]
    for made in results["made"][:_HOOKED]:
        paths = made["memcg"], Path(made["memcg"]).parent.as_posix()
        assert [{f"{made['pid']}": "python3"}] == [pids for path, pids in listed if path in paths][
            :1
        ]
    finished = re.findall(r"oomd prekill hook finished for cgroup (/\S+)", results["journal"])
    assert {path for path, _ in listed} == set(finished)


def test_systemd_counts_the_same_kills(results: dict[str, Any]) -> None:
    """By unit; a kill that the agent lost is named."""
    counted = convert(results["units"], list[UnitKills])
    events = [convert(one["event"], UserspaceKill) for one in results["captured"]]
    assert find_unrecorded(counted, events) == []
    # Those whose unit is still loaded: systemd forgets one that did not fail.
    named = {text.partition(" ")[0] for text in find_unrecorded(counted, [])}
    expected = {Path(results["made"][index]["memcg"]).name for index in (0, 2, 3, 4, 5)}
    assert named == expected


def test_the_agent_reports_the_kills_that_systemd_alone_counted(results: dict[str, Any]) -> None:
    """None with the events that were captured, each unit with an empty store."""
    by_events, by_none = results["missed"]
    assert by_events == []
    assert set(by_none) == {Path(results["made"][index]["memcg"]).name for index in (0, 2, 3, 4, 5)}


@pytest.mark.parametrize("index", [6, 7])
def test_a_daemon_kills_a_process(results: dict[str, Any], index: int) -> None:
    """The largest, with its memory, its cgroup and the limit."""
    made, event = find_kill(results, index)
    assert event.killer.name == made["killer"]
    assert event.victim is not None
    assert event.victim.tgid == made["pid"]
    assert (event.killer.signal, event.killer.limit) == ("SIGTERM", made["percent"])
    assert event.resident is not None
    assert event.resident >= 400 * _MIB
    assert event.memcg is not None
    assert event.memcg.path == made["memcg"]
    # Dead by the daemon's own signal, now or by its exit.
    exits = [exit_ for exit_ in results["exits"] if exit_["kill_uid"] == event.uid]
    assert event.verified or len(exits) == 1


def test_a_kill_that_earlyoom_had_the_kernel_choose_is_one_event(results: dict[str, Any]) -> None:
    """The kernel's event names the daemon; the next request, by a person, names none."""
    events = convert(results["requested"]["kills"], list[OomKill])
    assert [event.victim.tgid for event in events] == results["requested"]["pids"]
    killers = [event.killer for event in events]
    assert killers == [
        UserspaceOomDaemon(
            "earlyoom", reason="memory_available", rule="kernel OOM killer (sysrq f)"
        ),
        None,
    ]


def test_replay_finds_each_kill_in_the_journals_text(results: dict[str, Any]) -> None:
    """The messages of real daemons; a rule's cgroup is the last of its candidates, or its own."""
    found = [
        (kill.killer.name, kill.killer.rule or kill.killer.reason)
        for kill in replay(results["journal"].splitlines())
        if isinstance(kill, UserspaceKill)
    ]
    captured = [
        (event.killer.name, event.killer.rule or event.killer.reason)
        for one in results["captured"]
        for event in (convert(one["event"], UserspaceKill),)
    ]
    assert set(found) == set(captured)
    for index in (0, 3, 4, 5, 6, 7):
        made, event = find_kill(results, index)
        kills = [
            kill
            for kill in replay(results["journal"].splitlines())
            if isinstance(kill, UserspaceKill) and kill.killer == event.killer
        ]
        targets = [
            kill.victim.tgid if kill.victim else kill.memcg and kill.memcg.path for kill in kills
        ]
        assert (event.victim.tgid if event.victim else made["memcg"]) in targets
