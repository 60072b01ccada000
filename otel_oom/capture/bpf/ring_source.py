"""The part of a source that reads BPF's ring buffer, however that was loaded."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Final, Self

from otel_oom.capture.bpf import marks
from otel_oom.capture.bpf.libbpf import Libbpf
from otel_oom.capture.bpf.loader import LoadedObject, LoadOptions
from otel_oom.capture.bpf.pin_set import RING
from otel_oom.capture.bpf.ring_buffer import RingBuffer, RingError
from otel_oom.capture.mark_matching import KillMark
from otel_oom.capture.source import Handler
from otel_oom.linux import clock
from otel_oom.model.events import CapturedEvent
from otel_oom.model.loss import LostEvents

if TYPE_CHECKING:  # imported late, see _open_reader()
    from otel_oom.capture.bpf.record_reader import RecordReader

_LOG = logging.getLogger(__name__)

RING_BYTES: Final = 1 << 20
"""Some 700 kills while the reader is busy."""


class RingSource(ABC):
    """Events from a ring buffer in the wire format of ``bpf/events.h``; see :class:`Source`."""

    name: str

    def __init__(self, ring_bytes: int, *, want_command: bool) -> None:
        """Prepare; nothing touches the kernel before the context is entered.

        ``ring_bytes`` is the size of the ring buffer, a power of two and a multiple of the page
        size. ``want_command`` records the victim's command line, which can hold secrets.
        """
        self.buffer_bytes = ring_bytes
        self._options = LoadOptions(ring_bytes, want_command)
        self.hook = ""
        self.unavailable: dict[str, str] = {}
        """Hooks that the kernel rejected, with its reason."""
        self.decision_source = ""
        """Hook that reports decisions; empty where the kernel allows none."""
        self.pinned = False
        self._reader: RecordReader | None = None
        self._pending: CapturedEvent | None = None

    @abstractmethod
    def _require(self) -> None:
        """Check the prerequisites of loading.

        Raises:
            CaptureError: the first thing that is missing, and how to get it.
        """

    @abstractmethod
    def _attach(self) -> LoadedObject:
        """Load and attach by the best hooks that the kernel allows."""

    def __enter__(self) -> Self:
        """Load and attach by the best hooks that the kernel allows.

        Raises:
            CaptureError: none is allowed, or a prerequisite is missing.
            InUseError: another agent captures by the same pins.
        """
        self._reader = None
        self._require()
        self._library = Libbpf()
        self._since_ns = clock.boottime_ns()
        self._loaded = loaded = self._attach()
        self._object = loaded.object
        self.hook, self.decision_source = loaded.hook, loaded.decision_source
        self.unavailable |= loaded.unavailable
        self._ring = RingBuffer(self._object.map_fd(RING), self.buffer_bytes)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the kernel side; unless it is pinned, that detaches and unloads it."""
        self._ring.close()
        self._object.close()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are records."""
        return self._ring.fileno()

    def buffered_bytes(self) -> int:
        """Return the size of the pending records."""
        return self._ring.pending_bytes()

    def drain(self, handler: Handler) -> int:
        """Pass all pending events to ``handler``; see :meth:`Source.drain`.

        A record is released when ``handler`` has returned. When it raises, its event is the first
        of the next call.

        Raises:
            Exception: whatever ``handler`` raised.
        """
        self._offset_ns = clock.boot_to_unix_offset_ns()
        return self._drain_records(self._ring.records(), handler)

    def _drain_records(self, records: Iterator[bytes], handler: Handler) -> int:
        count = 0
        reader = self._open_reader()
        try:
            for record in records:
                # A record is decoded once and in order, even if its event is handled again.
                self._pending = self._pending or reader.decode(record, self._offset_ns)
                handler(self._pending)
                self._pending = None
                reader.start_texts.wipe()
                count += 1
        except RingError as error:
            reader.undecodable += 1
            _LOG.error("Ring buffer corrupt; pending records dropped: %s", error)
        return count

    def _open_reader(self) -> RecordReader:
        """Return the reader, which the first drain imports: attaching does not wait for it."""
        if self._reader is None:
            from otel_oom.capture.bpf.record_reader import RecordReader  # noqa: PLC0415  as above

            self._reader = RecordReader(self._loaded, self.name, self._since_ns)
        return self._reader

    def lost_events(self) -> LostEvents:
        """Return the events lost on all CPUs since an earlier agent's report.

        An exit counts as lost once its victim is gone.
        """
        return self._open_reader().lost_events()

    def read_marks(self, tids: Collection[int]) -> list[KillMark]:
        """Return the marks of threads by their ids, as far as the kernel side keeps them."""
        try:
            return marks.read_marks(self._object.map_fd(marks.MARKS), tids)
        except OSError as error:
            _LOG.warning("Cannot read marks, so kills may be duplicated: %s", error)
            return []
