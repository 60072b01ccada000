"""Panics out of memory on every supported kernel, recorded by a later boot of that machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from msgspec import convert

from otel_oom.capture.panic.previous_boot import read_previous_boot
from otel_oom.capture.panic.scan import find_panics
from otel_oom.enrich.stack_analysis import analyse_stack
from otel_oom.model.events import Panic
from tests.testlib.require import require
from tests.vmtest.boots import Boots, needs_guest
from tests.vmtest.kernels import KERNELS, is_arm64
from tests.vmtest.machine import THIRD_BOOT, Machine, Panics, boot_machine
from tests.vmtest.panics import JOURNAL, LIMIT, PANICS, RECORDS

MESSAGES = {
    "memcg": "Out of memory: compulsory panic_on_oom is enabled",
    "host": "Out of memory: system-wide panic_on_oom is enabled",
}
NS_PER_S = 10**9

_PANIC = re.compile(
    r"<0>\[ *(?P<s>\d+)\.(?P<us>\d{6})\](?:\[ *\w+\])? "
    r"Kernel panic - not syncing: (?P<message>.*)\n"
    r".*CPU: \d+ (?:UID: \d+ )?PID: (?P<tid>\d+) Comm: (?P<comm>.*) (?:Not tainted|Tainted: )"
)

every_panic = pytest.mark.parametrize("name", PANICS)


@pytest.fixture(
    params=[
        pytest.param(name, marks=needs_guest(boot_machine, name))
        for name in KERNELS
        if not is_arm64(name)
    ]
)
def panics(boots: Boots, request: pytest.FixtureRequest) -> Panics:
    """Return the panics of a machine with that kernel."""
    machine: Machine = boots.result((boot_machine, request.param))
    assert isinstance(machine.panics, Panics), machine.panics
    assert "failed" not in machine.panics.records, machine.panics.records["failed"]
    return machine.panics


def find_event(panics: Panics, name: str) -> Panic:
    """Return the one event with that panic's message."""
    events = panics.records["events"]
    (event,) = (event for event in events if event["message"] == MESSAGES[name])
    return convert(event, Panic)


def test_each_panic_is_found_once(panics: Panics) -> None:
    """Nothing else is found, and a second scan finds the same uids."""
    first, second = panics.records["events"], panics.records["events_again"]
    assert [event["message"] for event in first] == [MESSAGES[name] for name in PANICS]
    assert len({event["uid"] for event in first}) == len(PANICS)
    assert [event["uid"] for event in second] == [event["uid"] for event in first]


@every_panic
def test_a_panic_has_the_time_and_task_of_its_record(panics: Panics, name: str) -> None:
    """The time is on the log's clock."""
    lines = [line for text in panics.records["texts"] for line in _PANIC.finditer(text)]
    (line,) = (line for line in lines if line["message"] == MESSAGES[name])
    event = find_event(panics, name)
    assert event.boottime_ns == (int(line["s"]) * 10**6 + int(line["us"])) * 1000
    assert (event.tid, event.comm) == (int(line["tid"]), line["comm"])
    assert f"Kernel panic - not syncing: {MESSAGES[name]}" in event.original
    assert event.capture.source == "pstore"


@every_panic
def test_the_time_is_within_the_boot_that_panicked(panics: Panics, name: str) -> None:
    """The record's time lies behind the last that its boot said, and before the next boot."""
    event = find_event(panics, name)
    later = [*PANICS[PANICS.index(name) + 1 :]]
    end = panics.known[later[0]]["began"] if later else panics.ended
    # The store has whole seconds, by the guest's own clock.
    assert panics.known[name]["began"] - 1 < event.time_unix_ns / NS_PER_S < end + 1


def test_a_cgroups_panic_has_limit_request_and_trigger(panics: Panics) -> None:
    event = find_event(panics, "memcg")
    decision, origin = event.decision, analyse_stack(event.stack)
    assert decision is not None
    assert (decision.constraint, decision.order) == ("memcg", 0)
    assert decision.gfp_mask
    assert decision.memcg is not None
    assert decision.memcg.path == panics.known["memcg"]["memcg"]
    assert decision.memcg_usage is not None
    assert decision.memcg_usage.limit == LIMIT
    assert (event.comm, origin.origin, origin.entry_point) == ("fill_cgroup", "memcg", "page_fault")
    assert event.trigger is not None
    assert event.trigger.tgid == event.tid


def test_a_hosts_panic_has_no_cgroup_and_no_constraint(panics: Panics) -> None:
    event = find_event(panics, "host")
    assert event.decision is not None
    assert (event.decision.constraint, event.decision.memcg) == ("none", None)
    assert analyse_stack(event.stack).origin == "host"


def test_panics_keep_their_uids_after_systemd_pstore(panics: Panics) -> None:
    """systemd-pstore(8) moves all records out of the store."""
    require("moved" in panics.records, "systemd-pstore is not on this machine")
    first = panics.records["events"]
    assert panics.records["left"] == []
    assert [event["uid"] for event in panics.records["moved"]] == [event["uid"] for event in first]
    for before, moved in zip(first, panics.records["moved"], strict=True):
        assert moved["time_unix_ns"] == before["time_unix_ns"]
        assert moved["original"] == before["original"]


def test_the_journal_names_the_boot(panics: Panics, tmp_path: Path) -> None:
    """Of two boots in the journal, the last but one is known by its lines in the store.

    Its panic gets that boot's id and clock, and keeps its uid; the other panic has neither.
    """
    facts = panics.known["memcg"]
    require(facts["journal"], "systemd-journald is not on this machine")
    journals = [panics.folder / name / JOURNAL for name in PANICS]
    files = [path for journal in journals for path in journal.rglob("*.journal")]
    program = tmp_path / "journalctl"
    program.write_text(
        f'#!/bin/sh\nexec journalctl {shlex.join(f"--file={path}" for path in files)} "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o700)
    boot = read_previous_boot(str(program))
    assert boot is not None
    assert boot.boot_id == facts["boot_id"]
    of_memcg, of_host = find_panics((panics.folder / THIRD_BOOT / RECORDS,), lambda: boot)
    recorded = find_event(panics, "memcg")
    assert (of_memcg.uid, of_memcg.message) == (recorded.uid, recorded.message)
    assert (of_memcg.boot_id, of_memcg.time_source) == (facts["boot_id"], "log")
    assert facts["began"] - 1 < of_memcg.time_unix_ns / NS_PER_S
    assert (of_host.boot_id, of_host.time_source) == ("", "record")
