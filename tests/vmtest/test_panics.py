"""Panics for want of memory on every supported kernel, told by the next boot of that machine.

What lasts between the boots is the firmware's store of error records (ACPI ERST), as a server has
it. Two boots panic, one by each setting of `vm.panic_on_oom`; the third looks.
"""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert

from otel_oom.capture.panic.previous_boot import read_previous_boot
from otel_oom.capture.panic.scan import find_panics
from otel_oom.enrich.stack_analysis import analyse_stack
from otel_oom.model.events import Panic
from tests.testlib.require import require
from tests.vmtest import guest
from tests.vmtest.boots import Boots, guest_of
from tests.vmtest.kernels import WANTED, kernel
from tests.vmtest.panics import AFTER, JOURNAL, LIMIT, PANICS, STORED

MESSAGES = {
    "memcg": "Out of memory: compulsory panic_on_oom is enabled",
    "host": "Out of memory: system-wide panic_on_oom is enabled",
}
NS_PER_S = 10**9

_LIMIT_S = 200.0
_STORE_BYTES = 1 << 18

_PANIC = re.compile(
    r"<0>\[ *(?P<s>\d+)\.(?P<us>\d{6})\](?:\[ *\w+\])? "
    r"Kernel panic - not syncing: (?P<message>.*)\n"
    r".*CPU: \d+ (?:UID: \d+ )?PID: (?P<tid>\d+) Comm: (?P<comm>.*) (?:Not tainted|Tainted: )"
)

every_panic = pytest.mark.parametrize("name", PANICS)


@dataclass(frozen=True)
class Panicked:
    """What came out of the three boots of one machine."""

    folder: Path
    """With a folder for each boot."""
    known: dict[str, dict[str, Any]]
    """What each boot that panicked knew of it."""
    after: dict[str, Any]
    ended: float
    """When the machine was off, in Unix time."""

    def told(self, name: str, events: list[dict[str, Any]]) -> Panic:
        """The one event with that panic's message."""
        (event,) = (event for event in events if event["message"] == MESSAGES[name])
        return convert(event, Panic)


def boot(name: str, machine: Path) -> Panicked:
    """Boot a machine with that kernel three times."""
    wanted = kernel(name)
    backend = f"memory-backend-file,id=erst,size={_STORE_BYTES},share=on"
    devices = ("-object", f"{backend},mem-path={machine}/erst", "-device", "acpi-erst,memdev=erst")
    results = {}
    for each in (*PANICS, AFTER):
        folder = machine / each
        folder.mkdir()
        done = guest.run(wanted, "tests.vmtest.panics", folder, _LIMIT_S, devices)
        results[each] = done.results
    return Panicked(machine, results, results[AFTER], time.time())


@pytest.fixture(params=[pytest.param(name, marks=guest_of(boot, name)) for name in WANTED])
def panicked(boots: Boots, request: pytest.FixtureRequest) -> Panicked:
    """A machine with that kernel, booted three times."""
    machine: Panicked = boots.result((boot, request.param))
    assert "failed" not in machine.after, machine.after["failed"]
    return machine


def test_every_panic_is_told_once(panicked: Panicked) -> None:
    """Both are told, nothing else is, and at a second look they have the same names."""
    first, second = panicked.after["told"]
    assert [event["message"] for event in first] == [MESSAGES[name] for name in PANICS]
    assert len({event["uid"] for event in first}) == len(PANICS)
    assert [event["uid"] for event in second] == [event["uid"] for event in first]


@every_panic
def test_a_panic_is_told_as_the_kernel_stored_it(panicked: Panicked, name: str) -> None:
    """Its time on the log's clock, and who asked for memory, as the record has them."""
    stored = [found for text in panicked.after["texts"] for found in _PANIC.finditer(text)]
    (line,) = (found for found in stored if found["message"] == MESSAGES[name])
    event = panicked.told(name, panicked.after["told"][0])
    assert event.boottime_ns == (int(line["s"]) * 10**6 + int(line["us"])) * 1000
    assert (event.tid, event.comm) == (int(line["tid"]), line["comm"])
    assert f"Kernel panic - not syncing: {MESSAGES[name]}" in event.original
    assert event.capture.source == "pstore"


@every_panic
def test_the_time_is_the_panics(panicked: Panicked, name: str) -> None:
    """The record's time lies behind the last that its boot said, and before the next boot."""
    event = panicked.told(name, panicked.after["told"][0])
    later = [*PANICS[PANICS.index(name) + 1 :]]
    end = panicked.known[later[0]]["began"] if later else panicked.ended
    # The store has whole seconds.
    assert panicked.known[name]["began"] - 1 < event.time_unix_ns / NS_PER_S < end


def test_a_cgroups_panic_is_told_with_its_limit(panicked: Panicked) -> None:
    """Whose limit it was, what was asked for, by whom and where in the kernel."""
    event = panicked.told("memcg", panicked.after["told"][0])
    decision, origin = event.decision, analyse_stack(event.stack)
    assert decision is not None
    assert (decision.constraint, decision.order) == ("memcg", 0)
    assert decision.gfp_mask
    assert decision.memcg is not None
    assert decision.memcg.path == panicked.known["memcg"]["memcg"]
    assert decision.memcg_usage is not None
    assert decision.memcg_usage.limit == LIMIT
    assert (event.comm, origin.origin, origin.entry_point) == ("fill_cgroup", "memcg", "page_fault")
    assert event.trigger is not None
    assert event.trigger.tgid == event.tid


def test_a_hosts_panic_is_told_as_such(panicked: Panicked) -> None:
    """No cgroup's limit was hit, and nothing bounded the choice."""
    event = panicked.told("host", panicked.after["told"][0])
    assert event.decision is not None
    assert (event.decision.constraint, event.decision.memcg) == ("none", None)
    assert analyse_stack(event.stack).origin == "host"


def test_what_systemd_has_moved_is_the_same(panicked: Panicked) -> None:
    """systemd-pstore(8) takes all out of the store, and the panics keep names and times."""
    require("moved" in panicked.after, "systemd-pstore is not on this machine")
    first = panicked.after["told"][0]
    assert panicked.after["left"] == []
    assert [event["uid"] for event in panicked.after["moved"]] == [event["uid"] for event in first]
    for before, moved in zip(first, panicked.after["moved"], strict=True):
        assert moved["time_unix_ns"] == before["time_unix_ns"]
        assert moved["original"] == before["original"]


def test_the_journal_names_the_boot(panicked: Panicked, tmp_path: Path) -> None:
    """Of two boots that systemd kept, the one before the last is known by its lines in the store.

    What is told has its id and its clock, and keeps its name; the other panic has neither.
    """
    known = panicked.known["memcg"]
    require(known["journal"], "systemd-journald is not on this machine")
    journals = [panicked.folder / name / JOURNAL for name in PANICS]
    files = [path for journal in journals for path in journal.rglob("*.journal")]
    program = tmp_path / "journalctl"
    program.write_text(
        f'#!/bin/sh\nexec journalctl {shlex.join(f"--file={path}" for path in files)} "$@"\n',
        encoding="utf-8",
    )
    program.chmod(0o700)
    boot = read_previous_boot(str(program))
    assert boot is not None
    assert boot.boot_id == known["boot_id"]
    of_memcg, of_host = find_panics((panicked.folder / AFTER / STORED,), lambda: boot)
    by_record = panicked.told("memcg", panicked.after["told"][0])
    assert (of_memcg.uid, of_memcg.message) == (by_record.uid, by_record.message)
    assert (of_memcg.boot_id, of_memcg.time_source) == (known["boot_id"], "log")
    assert known["began"] - 1 < of_memcg.time_unix_ns / NS_PER_S
    assert (of_host.boot_id, of_host.time_source) == ("", "record")
