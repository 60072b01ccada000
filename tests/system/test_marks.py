"""Kernels whose tracepoint passes an id and no task, which another process can have later.

The test writes what such a mark leaves in the table of victims.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

from otel_oom.capture.bpf import libbpf, loader
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
        """Mark a victim by its id alone: without a start and a mm."""
        key, value = ctypes.c_uint32(pid), struct.pack("=QQQII", 0, marked_ns, 0, pid, 0)
        assert self._library.bpf_map_update_elem(self._fd, ctypes.byref(key), value, 0) == 0

    def __contains__(self, pid: int) -> bool:
        """Return whether the table has a victim of that id."""
        key, value = ctypes.c_uint32(pid), ctypes.create_string_buffer(32)
        return bool(self._library.bpf_map_lookup_elem(self._fd, ctypes.byref(key), value) == 0)


@pytest.fixture
def source() -> Iterator[LibbpfSource]:
    """Attach the kernel side."""
    with LibbpfSource() as attached:
        yield attached


def exits_of(source: LibbpfSource, pid: int) -> list[VictimExit]:
    """Return the exits of a process."""
    events: list[CapturedEvent] = []
    source.drain(events.append)
    return [event for event in events if isinstance(event, VictimExit) and event.tgid == pid]


def test_kill_without_its_signal_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal would have the victim's task; without it the mark has its id only."""
    attach = BpfObject.attach

    def attach_without_signal(opened: BpfObject, program: str) -> None:
        if program == "signal_generate":
            raise LibbpfError(program, errno.ENOENT)
        attach(opened, program)

    monkeypatch.setattr(loader, "_mark_has_task", lambda _: False)
    monkeypatch.setattr(BpfObject, "attach", attach_without_signal)
    with LibbpfSource() as source:
        pid = kill_one()
        events: list[CapturedEvent] = []
        source.drain(events.append)
    assert source.hook in loader.VICTIM_HOOKS
    assert "No such file" in source.unavailable["raw_tp/signal_generate"]
    assert pid in [event.victim.tgid for event in events if isinstance(event, OomKill)]


def test_victim_marked_by_id_exits_with_its_start(source: LibbpfSource) -> None:
    victims, before = Victims(source), clock.boottime_ns()
    with subprocess.Popen(["sleep", "60"]) as victim:
        victims.mark(victim.pid, clock.boottime_ns())
        victim.kill()
        victim.wait(10)
    (exit_,) = exits_of(source, victim.pid)
    assert exit_.start_boottime_ns is not None
    assert before < exit_.start_boottime_ns < exit_.boottime_ns
    assert victim.pid not in victims


def test_later_process_with_the_id_is_no_victim(source: LibbpfSource) -> None:
    """It started after the mark; the table drops the id."""
    victims, marked = Victims(source), clock.boottime_ns()
    time.sleep(0.01)
    with subprocess.Popen(["sleep", "60"]) as later:
        victims.mark(later.pid, marked)
        later.kill()
        later.wait(10)
    assert exits_of(source, later.pid) == []
    assert later.pid not in victims
