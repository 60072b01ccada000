"""Read the signals by which userspace OOM daemons kill, and their requests that the kernel kill.

Only the kernel knows which processes of a cgroup a daemon kills: its message names none. The
program of ``bpf/signals.bpf.h`` runs at each signal of the host, so it is loaded only where there
is a daemon.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator

from msgspec import Struct

from otel_oom.capture.bpf import records
from otel_oom.capture.bpf.capabilities import require_bpf_rights
from otel_oom.capture.bpf.decoder import WireError, check_header, read_victim_record
from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.loader import SIGNAL_RING, SYSRQ_REQUESTS, load_daemon_signals
from otel_oom.capture.bpf.record_values import memcg_of, memory_of, task_of, victim_of
from otel_oom.capture.bpf.records import Counters, SysrqRequest
from otel_oom.capture.bpf.ring_buffer import RingBuffer, RingError
from otel_oom.capture.bpf.source import require_prerequisites
from otel_oom.model.types import Memcg, Memory, Task

_LOG = logging.getLogger(__name__)


class DaemonSignal(Struct, frozen=True):
    """A fatal signal that a daemon, ``sender``, sent to ``victim``, which was alive.

    ``memory`` and ``memcg`` are the victim's at that time, ``boottime_ns`` on CLOCK_BOOTTIME.
    """

    boottime_ns: int
    number: int
    sender: Task
    victim: Task
    memory: Memory | None
    memcg: Memcg | None


class DaemonSignalReader:
    """The attached program and its ring buffer."""

    def __init__(self) -> None:
        """Load and attach.

        Raises:
            CaptureError: this host does not allow it; says why.
            OSError: the ring buffer can't be mapped.
        """
        require_prerequisites()
        require_bpf_rights()
        self._undecodable = 0
        self._object = load_daemon_signals(Libbpf())
        try:
            self._ring = RingBuffer(self._object.map_fd(SIGNAL_RING), records.SIGNAL_RING_BYTES)
        except OSError:
            self._object.close()
            raise

    def close(self) -> None:
        """Detach and unload."""
        self._ring.close()
        self._object.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are signals."""
        return self._ring.fileno()

    def read_signals(self) -> Iterator[DaemonSignal]:
        """Return the signals since the last call, oldest first."""
        try:
            for data in self._ring.records():
                try:
                    yield decode_signal(data)
                except WireError as error:
                    self._undecodable += 1
                    _LOG.error("Userspace OOM daemons: signal undecodable: %s", error)
        except RingError as error:
            self._undecodable += 1
            _LOG.error("Userspace OOM daemons: ring buffer corrupt, signals dropped: %s", error)

    def find_sysrq_request(self, before_ns: int) -> tuple[int, str] | None:
        """Return the last request for a kill by sysrq, unless it came after ``before_ns``.

        It has the time on CLOCK_BOOTTIME and the daemon's unit, which is empty for any other
        process.
        """
        values = self._object.values(SYSRQ_REQUESTS, ctypes.sizeof(SysrqRequest))
        request = max(map(SysrqRequest.from_buffer_copy, values), key=lambda each: each.boottime_ns)
        if not 0 < request.boottime_ns <= before_ns:
            return None
        return request.boottime_ns, request.unit.decode("ascii")

    def count_lost(self) -> int:
        """Return the number of signals without space in the ring buffer, or undecodable."""
        values = self._object.values("oom_counters", ctypes.sizeof(Counters))
        lost: int = sum(Counters.from_buffer_copy(value).lost_victims for value in values)
        return lost + self._undecodable


def decode_signal(data: bytes) -> DaemonSignal:
    """Decode a record of the kind ``OOM_KIND_SIGNAL``.

    Raises:
        WireError: too short, of another version, or of another kind.
    """
    header = check_header(data)
    if header.kind != records.KIND_SIGNAL:
        raise WireError(f"a record of kind {header.kind} in the ring of signals")
    record = read_victim_record(data, header)
    flags = header.flags
    return DaemonSignal(
        boottime_ns=header.boottime_ns,
        number=record.signal,
        sender=task_of(record.trigger),
        victim=victim_of(record),
        memory=None if flags & records.FLAG_NO_MM else memory_of(record.memory),
        memcg=memcg_of(record, record.memcg, records.FLAG_NO_MEMCG, records.FLAG_MEMCG_CUT),
    )
