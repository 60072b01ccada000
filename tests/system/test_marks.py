"""Kernels whose tracepoint passes no task but a number, which another process can have later.

What such a mark leaves in the table of victims is written there by hand.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

from otel_oom.capture.bpf import libbpf
from otel_oom.capture.bpf import loader as attaching
from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.linux import clock
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from tests.testlib.kernel.kills import kill_one

pytestmark = pytest.mark.usefixtures("real_kills")


class Victims:
    """The kernel side's table of victims that have not exited."""

    def __init__(self, source: LibbpfSource) -> None:
        """Of an attached ``source``."""
        self._fd = source._object.map_fd("oom_victims")  # noqa: SLF001  no API writes to it
        self._library = libbpf.load_library()
        self._library.bpf_map_update_elem.argtypes = (
            *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64),
        )

    def mark(self, pid: int, marked_ns: int) -> None:
        """As a mark does that is a number alone: without a start and a mm."""
        key, value = ctypes.c_uint32(pid), struct.pack("=QQQII", 0, marked_ns, 0, pid, 0)
        assert self._library.bpf_map_update_elem(self._fd, ctypes.byref(key), value, 0) == 0

    def __contains__(self, pid: int) -> bool:
        """Whether there is a victim of that number."""
        key, value = ctypes.c_uint32(pid), ctypes.create_string_buffer(32)
        return bool(self._library.bpf_map_lookup_elem(self._fd, ctypes.byref(key), value) == 0)


@pytest.fixture
def source() -> Iterator[LibbpfSource]:
    """The kernel side, attached."""
    with LibbpfSource() as attached:
        yield attached


def ends(source: LibbpfSource, pid: int) -> list[VictimExit]:
    """Those that were told of that process."""
    events: list[CapturedEvent] = []
    source.drain(events.append)
    return [event for event in events if isinstance(event, VictimExit) and event.tgid == pid]


def test_a_signal_that_cannot_be_seen_costs_no_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would tell who a number is; without it the mark is told by the hook that it was."""
    attach = BpfObject.attach

    def refuse(opened: BpfObject, program: str) -> None:
        if program == "signal_generate":
            raise LibbpfError(program, errno.ENOENT)
        attach(opened, program)

    monkeypatch.setattr(attaching, "_mark_has_task", lambda _: False)
    monkeypatch.setattr(BpfObject, "attach", refuse)
    with LibbpfSource() as source:
        pid = kill_one()
        events: list[CapturedEvent] = []
        source.drain(events.append)
    assert source.hook in attaching.VICTIM_HOOKS
    assert "No such file" in source.unavailable["raw_tp/signal_generate"]
    assert pid in [event.victim.tgid for event in events if isinstance(event, OomKill)]


def test_a_victim_known_by_its_number_ends_as_itself(source: LibbpfSource) -> None:
    """The process that had the number when it was marked: its end is told with its own start."""
    victims, before = Victims(source), clock.boottime_ns()
    with subprocess.Popen(["sleep", "60"]) as victim:
        victims.mark(victim.pid, clock.boottime_ns())
        victim.kill()
        victim.wait(10)
    (exit_,) = ends(source, victim.pid)
    assert exit_.start_boottime_ns is not None
    assert before < exit_.start_boottime_ns < exit_.boottime_ns
    assert victim.pid not in victims


def test_a_later_process_of_that_number_is_no_victim(source: LibbpfSource) -> None:
    """It was started after the mark: its end is nobody's, and the number is free again."""
    victims, marked = Victims(source), clock.boottime_ns()
    time.sleep(0.01)
    with subprocess.Popen(["sleep", "60"]) as later:
        victims.mark(later.pid, marked)
        later.kill()
        later.wait(10)
    assert ends(source, later.pid) == []
    assert later.pid not in victims
