"""The capture loop, with events in an order that a real kernel seldom makes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Self

import pytest
from msgspec.structs import replace

from otel_oom.agent import service
from otel_oom.capture.panic import scan
from otel_oom.capture.source import Handler
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import OtlpConfig
from otel_oom.linux import clock
from otel_oom.model.events import LostEvents, OomKill, VictimExit
from otel_oom.snapshot import ProcessScanner
from otel_oom.store import Store
from tests.testlib.samples.events import EXIT, KILL, PANIC

CONFIG = AgentConfig(OtlpConfig((), {}, disabled=True))


class Scripted:
    """A source that hands over what it is given, then ends the agent."""

    name = hook = "scripted"
    decision_source = ""
    pinned = False

    def __init__(self, *events: OomKill | VictimExit) -> None:
        """Hand over ``events``, once."""
        self._events = list(events)
        self._readable = os.pipe()

    def __enter__(self) -> Self:
        """Nothing is to be attached."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close what was waited on."""
        for descriptor in self._readable:
            os.close(descriptor)

    def fileno(self) -> int:
        """A descriptor that never is readable."""
        return self._readable[0]

    def drain(self, handler: Handler) -> int:
        """Hand over all, and have the agent stopped."""
        count = len(self._events)
        while self._events:
            handler(self._events.pop(0))
        os.kill(os.getpid(), signal.SIGTERM)
        return count

    def lost_events(self) -> LostEvents:
        """Nothing is lost."""
        return LostEvents()


def test_an_exit_that_overtakes_its_mark_is_kept(tmp_path: Path) -> None:
    """A victim that dies at once on another CPU is told as exited, though its exit came first."""
    now = replace(KILL, boot_id=clock.boot_id())
    service.run(Scripted(EXIT, now), CONFIG, tmp_path)
    with Store(tmp_path) as store:
        (row,) = store.pending_events(10, clock.boot_id(), 0)
    assert row.exit == EXIT


@pytest.mark.parametrize(
    ("exit_", "kept"),
    [(EXIT, True), (replace(EXIT, boottime_ns=1), False)],
    ids=["at once", "long before"],
)
def test_an_early_exit_is_that_of_a_victim_without_a_start(
    tmp_path: Path, exit_: VictimExit, *, kept: bool
) -> None:
    """Where the start was not told by both, the same id at the same time is the same process."""
    kill = replace(
        KILL,
        boot_id=clock.boot_id(),
        boottime_ns=EXIT.boottime_ns + 1000,
        victim=replace(KILL.victim, start_boottime_ns=None),
    )
    service.run(Scripted(exit_, kill), CONFIG, tmp_path)
    with Store(tmp_path) as store:
        (row,) = store.pending_events(10, clock.boot_id(), 0)
    assert row.exit == (exit_ if kept else None)


def test_who_used_the_memory_is_added_to_what_is_on_the_disk(tmp_path: Path) -> None:
    """The kill is stored with what was around it then; of one that is told late nothing is."""
    now = replace(KILL, boot_id=clock.boot_id(), decision=None, stack=())
    late = replace(
        now,
        boottime_ns=now.boottime_ns + 1,
        victim=replace(now.victim, start_boottime_ns=1),
        capture=replace(now.capture, recovered=True),
    )
    service.run(Scripted(now, late), CONFIG, tmp_path)
    with Store(tmp_path) as store:
        seen, nothing = (row.snapshot for row in store.pending_events(10, clock.boot_id(), 0))
    assert seen.tasks is not None
    assert seen.tasks.largest
    assert seen.vm_sysctl["panic_on_oom"] in {0, 1, 2}
    assert seen.host is not None
    assert (nothing.tasks, nothing.vm_sysctl, nothing.host) == (None, {}, None)


def test_a_kill_is_told_though_nothing_else_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in looking around, the kill that is on the disk is told as it is."""
    monkeypatch.setattr(ProcessScanner, "add_to", lambda *_: 1 / 0)
    now = replace(KILL, boot_id=clock.boot_id())
    service.run(Scripted(now), CONFIG, tmp_path)
    with Store(tmp_path) as store:
        (row,) = store.pending_events(10, clock.boot_id(), 0)
    assert row.event == now
    assert row.snapshot.tasks is None


def test_what_an_earlier_boot_ended_by_is_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panic that is found at two starts is one row; whether it is new decides what is said."""
    new = []
    monkeypatch.setattr(scan, "begin", lambda record, _wake: new.append(record(PANIC)))
    for _ in range(2):
        service.run(Scripted(), CONFIG, tmp_path)
    assert new == [True, False]
    with Store(tmp_path) as store:
        (row,) = store.pending_events(10, clock.boot_id(), 0)
    assert row.event == PANIC
