"""The source of userspace kills is loaded once there is a daemon."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest
from msgspec.structs import replace

from otel_oom.capture.userspace.daemons import EARLYOOM
from otel_oom.capture.userspace.watch import DaemonWatch
from otel_oom.model.events import CapturedEvent, OomKill
from otel_oom.model.types import UserspaceOomDaemon
from tests.testlib.command import clean_environ
from tests.testlib.ingest import ScriptedSource
from tests.testlib.samples.events import KILL


class Readable(ScriptedSource):
    """A source with an event, whose descriptor shows it."""

    def __init__(self) -> None:
        super().__init__([KILL])
        self.left = False
        os.write(self._pipe[1], b"\n")

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.left = True


class Requested(Readable):
    """A source that names a daemon for each kill."""

    def add_requester(self, kill: OomKill) -> OomKill:
        """Return the kill with a daemon."""
        return replace(kill, killer=UserspaceOomDaemon("earlyoom"))


def is_readable(source: DaemonWatch) -> bool:
    """Return whether a loop that waits for ``source`` would wake up."""
    return bool(select.select([source], [], [], 0)[0])


def test_a_source_is_opened_once_a_daemon_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the agent runs; its events and its descriptor are passed on."""
    daemons: list[str] = []
    created: list[Readable] = []
    events: list[CapturedEvent] = []

    def create() -> Readable:
        created.append(Readable())
        return created[-1]

    with DaemonWatch(create, lambda: daemons) as source:
        assert source.drain(events.append) == 0
        daemons.append(EARLYOOM)
        # Until the next check there is no source.
        assert source.drain(events.append) == 0
        assert not created
        monkeypatch.setattr("time.monotonic", lambda: float("inf"))
        assert source.drain(events.append) == 1
        assert is_readable(source)
        assert source.drain(events.append) == 0
    assert events == [KILL]
    assert [each.left for each in created] == [True]


def test_a_daemon_of_before_is_read_from_the_start() -> None:
    with DaemonWatch(Readable, lambda: [EARLYOOM]) as source:
        assert is_readable(source)


def test_only_a_kill_by_sysrq_can_have_a_requester() -> None:
    """Of another one, the source is not searched; without a daemon there is none."""
    decision = KILL.decision
    assert decision is not None
    by_sysrq = replace(KILL, decision=replace(decision, order=-1))
    with DaemonWatch(Requested, lambda: [EARLYOOM]) as source:
        assert source.add_requester(by_sysrq).killer == UserspaceOomDaemon("earlyoom")
        assert source.add_requester(KILL) == KILL
        assert source.add_requester(replace(KILL, decision=None)).killer is None
    with DaemonWatch(Requested, list) as source:
        assert source.add_requester(by_sysrq).killer is None


def test_the_watch_loads_no_source() -> None:
    code = (
        "import sys, otel_oom.agent.ingest_stage, otel_oom.capture.userspace.watch;"
        "print('otel_oom.capture.userspace.source' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environ(), capture_output=True, check=True
    )
    assert done.stdout == b"False\n"
