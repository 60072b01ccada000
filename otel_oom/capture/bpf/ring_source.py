"""What the sources share whose kernel side fills a ring buffer, whoever has loaded it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import Final, Self

from msgspec.structs import replace

from otel_oom.capture.bpf import marks
from otel_oom.capture.bpf.decoder import Decoder, WireError
from otel_oom.capture.bpf.ksyms import KernelSymbolizer
from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.loader import LoadedObject, LoadOptions
from otel_oom.capture.bpf.lost_events import LostEventCounter
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.pin_set import RING
from otel_oom.capture.bpf.ring_buffer import RingBuffer, RingError
from otel_oom.capture.mark_matching import KillMark
from otel_oom.capture.source import Handler
from otel_oom.linux import clock
from otel_oom.linux.gfp_flags import GfpFlagNames
from otel_oom.model.events import CapturedEvent, LostEvents, UndecodableRecord

_LOG = logging.getLogger(__name__)

RING_BYTES: Final = 1 << 20
"""Some 700 kills while we are busy. It is mapped twice, and all of it counts as ours."""


class RingSource(ABC):
    """Kills out of a ring buffer in the wire format of ``bpf/events.h``; see :class:`Source`."""

    name: str

    def __init__(self, ring_bytes: int, *, want_command: bool) -> None:
        """Prepare; nothing touches the kernel before the context is entered.

        ``ring_bytes``, a power of two and a multiple of the page size, is how much the kernel
        keeps for us while we are busy. ``want_command`` is whether to read the victim's command
        line, which can hold secrets.
        """
        self.buffer_bytes = ring_bytes
        self._options = LoadOptions(ring_bytes, want_command)
        self.hook = ""
        self.unavailable: dict[str, str] = {}
        """Hooks that the kernel rejected, with its reason."""
        self.decision_source = ""
        """The hook that tells of decisions; empty where this kernel allows none."""
        self.pinned = False
        self._waiting: CapturedEvent | None = None
        self._unreadable = 0

    @abstractmethod
    def _require(self) -> None:
        """See that what loading needs is there.

        Raises:
            CaptureError: the first thing that is missing, and how to get it.
        """

    @abstractmethod
    def _attach(self) -> LoadedObject:
        """Load and attach by the first hook that the kernel allows."""

    def __enter__(self) -> Self:
        """Load and attach by the first hook that the kernel allows.

        Raises:
            CaptureError: it is not allowed, or something for it is missing.
            InUseError: another agent captures by the same pins.
        """
        self._require()
        self._library = Libbpf()
        since_ns = clock.boottime_ns()
        attached = self._attach()
        self._object = attached.object
        self.hook, self.decision_source = attached.hook, attached.decision_source
        self.unavailable |= attached.unavailable
        named = self._object if isinstance(self._object, BpfObject) else None
        self._decoder = Decoder(
            boot_id=clock.boot_id(),
            source=self.name,
            hook=self.hook,
            names=KernelSymbolizer(named).names,
            decision_source=self.decision_source,
            gfp_flags=GfpFlagNames().format_mask,
            since_ns=since_ns,
        )
        self._ring = RingBuffer(self._object.map_fd(RING), self.buffer_bytes)
        self._lost = LostEventCounter(self._object)
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the kernel side; unless it is pinned, that detaches and unloads it."""
        self._ring.close()
        self._object.close()

    def fileno(self) -> int:
        """A descriptor that is readable when kills wait."""
        return self._ring.fileno()

    def buffered_bytes(self) -> int:
        """How many bytes the kernel's buffer holds for us now."""
        return self._ring.pending_bytes()

    def drain(self, handler: Handler) -> int:
        """Hand over all events that wait; see :meth:`Source.drain`.

        A record leaves the kernel's buffer when ``handler`` has returned; when it raises, the
        event comes first at the next call.

        Raises:
            Exception: whatever ``handler`` raised.
        """
        self._offset_ns = clock.boot_to_unix_offset_ns()
        return self._drain_records(self._ring.records(), handler)

    def _drain_records(self, records: Iterator[bytes], handler: Handler) -> int:
        taken = 0
        try:
            for record in records:
                # What was handed over in vain has been decoded, which is done once in order.
                self._waiting = self._waiting or self._event(record)
                handler(self._waiting)
                self._waiting = None
                taken += 1
        except RingError as error:
            self._unreadable += 1
            _LOG.error("What waited in the kernel's buffer is lost: %s", error)
        return taken

    def _event(self, record: bytes) -> CapturedEvent:
        try:
            return self._decoder.decode(record, self._offset_ns)
        except Exception as error:  # noqa: BLE001  whatever it was, nothing of it is lost
            self._unreadable += 1
            reason = str(error) if isinstance(error, WireError) else repr(error)
            return UndecodableRecord(record, reason)

    def lost_events(self) -> LostEvents:
        """What the ring buffer had no room for, over all CPUs, since an agent last asked."""
        return replace(self._lost.read(), undecodable=self._unreadable)

    def read_marks(self, tids: Collection[int]) -> list[KillMark]:
        """The marks of threads by their ids, as far as the kernel side remembers them."""
        try:
            return marks.read_marks(self._object.map_fd(marks.MARKS), tids)
        except OSError as error:
            _LOG.warning("The marks can't be read, so that kills may be told as new: %s", error)
            return []
