"""Bytes as records of signals that userspace OOM daemons sent, and their match with a message.

The same bytes follow a valid header, with the flags of their first two bytes. The decoder never
raises anything else than WireError.
"""

from __future__ import annotations

import ctypes
import select
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final
from unittest import mock

from otel_oom.capture.bpf import records
from otel_oom.capture.bpf.daemon_signals import DaemonSignal, decode_signal
from otel_oom.capture.bpf.decoder import WireError
from otel_oom.capture.bpf.records import Header, VictimRecord
from otel_oom.capture.userspace.daemon_signals import DaemonSignals
from otel_oom.linux import clock
from tests.testlib.samples.events import roundtrip

_MAX_COMM_CHARS: Final = 4 * records.COMM_LEN
_MAX_PATH_CHARS: Final = 5 * records.TEXT_LEN
"""A byte that is not UTF-8 becomes four characters, and each name has a slash."""
_MAX_LISTED: Final = 64
_COPIES: Final = 3


class _Reader:
    def __init__(self, signals: Sequence[DaemonSignal]) -> None:
        self._signals = list(signals)

    def read_signals(self) -> Iterator[DaemonSignal]:
        while self._signals:
            yield self._signals.pop(0)

    def count_lost(self) -> int:
        return 0


def check_input(data: bytes) -> None:
    """Decode records; check that their values are bounded, and that each is matched once."""
    for raw in (data, _with_header(data)):
        with suppress(WireError):
            signal = decode_signal(raw)
            _check_signal(signal)
            _check_matches(signal)


def _with_header(data: bytes) -> bytes:
    flags, content = int.from_bytes(data[:2], "little"), data[2:]
    size = max(VictimRecord.user_stack.offset, ctypes.sizeof(Header) + len(content))
    header = Header(records.WIRE_VERSION, records.KIND_SIGNAL, size, flags=flags)
    return (bytes(header) + content).ljust(size, b"\0")


def _check_signal(signal: DaemonSignal) -> None:
    for task in (signal.sender, signal.victim):
        assert len(task.comm or "") <= _MAX_COMM_CHARS
    assert signal.memcg is None or len(signal.memcg.path) <= _MAX_PATH_CHARS
    assert roundtrip(signal.victim) == signal.victim


def _check_matches(signal: DaemonSignal) -> None:
    with select.epoll() as epoll:
        signals = DaemonSignals(epoll)
        reader = _Reader([signal] * _COPIES)
        with mock.patch.object(signals, "_reader", reader):
            before_ns = min(signal.boottime_ns, 1 << 62)
            with mock.patch.object(clock, "boottime_ns", return_value=before_ns):
                path = signal.memcg.path if signal.memcg else "/"
                tasks = signals.take_cgroup(None, path)
                if tasks is None:
                    sender, victim = signal.sender.tgid, signal.victim.tgid
                    assert signals.take_process(sender, victim) == signal
                    assert signals.take_process(sender, victim) is None
                else:
                    assert len(tasks.largest) <= _MAX_LISTED
                    assert roundtrip(tasks) == tasks
                    assert signals.take_cgroup(None, path) is None
                signals.are_complete(signal.sender.tgid, before_ns)
