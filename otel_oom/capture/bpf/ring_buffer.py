"""Consumer of the kernel's ring buffer that releases a record only after it was handled.

libbpf's own consumer releases a record in any case: one that could not be stored would be only in
this process. The layout is that of kernel/bpf/ringbuf.c: a page with the consumer's position, one
with the producers', then the data. Mapped pages count as this process's memory, so only a window
of the data is mapped: that of the record that is read. A position only grows; modulo the size it is
an offset. A record is its length, of which two bits are flags, four bytes of the kernel's, and its
data.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Iterator
from typing import Final

_BUSY: Final = 1 << 31
"""BPF_RINGBUF_BUSY_BIT: a program is still filling the record."""
_DISCARDED: Final = 1 << 30
"""BPF_RINGBUF_DISCARD_BIT: a program has discarded the record."""
_LENGTH: Final = struct.Struct("=I")
_HEADER_BYTES: Final = 8
_ALIGNMENT: Final = 8
_WINDOW_BYTES: Final = 1 << 16
"""Some 40 kills; a multiple of each page size that Linux has."""
_POSITIONS: Final = 1 << (8 * struct.calcsize("L"))
"""Range of a position, an unsigned long that wraps around."""


class RingError(Exception):
    """A corrupt ring: its positions or lengths contradict each other."""


class RingBuffer:
    """The only consumer of a ring buffer map; it never blocks."""

    def __init__(self, map_fd: int, size: int) -> None:
        """Map the ring of ``size`` bytes at ``map_fd``, which stays the caller's.

        Raises:
            OSError: it is no ring buffer of that size.
        """
        self._page = page = os.sysconf("SC_PAGE_SIZE")
        self._map_fd = map_fd
        self._size = size
        self._consumer_page = mmap.mmap(
            map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
        )
        self._producer_page = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._window_bytes = min(_WINDOW_BYTES, size)
        self._window_start = size - self._window_bytes
        self._window = self._map_window(self._window_start)
        # Each position is an unsigned long, read and written in one access.
        self._consumed = memoryview(self._consumer_page).cast("L")
        self._produced = memoryview(self._producer_page).cast("L")
        self._fence = threading.Lock()
        self._fence.acquire()

    def fileno(self) -> int:
        """Return a descriptor that is readable when there are records.

        Raises:
            ValueError: it is closed.
        """
        if self._consumer_page.closed:
            raise ValueError("the ring buffer's consumer is closed")
        return self._map_fd

    def records(self) -> Iterator[bytes]:
        """Yield the data of each record, oldest first.

        A record is released when the next one is requested. Without that request the same record is
        yielded again next time.

        Raises:
            RingError: the ring is corrupt; all records in it are dropped.
            MemoryError: the record can't be mapped now; it stays in the ring.
        """
        while True:
            position, end = self._consumed[0], self._produced[0]
            self._barrier()
            if position == end:
                return
            window, offset = self._open_window(position)
            (length,) = _LENGTH.unpack_from(window, offset)
            self._barrier()
            if length & _BUSY:
                return
            size = length & ~_DISCARDED
            step = (size + _HEADER_BYTES + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
            if not position + step <= end <= position + self._size:
                self._consumed[0] = end
                raise RingError(
                    f"a record of {size} bytes in {end - position} of a ring of {self._size}"
                )
            if not length & _DISCARDED:
                yield self._copy(position + _HEADER_BYTES, size)
            self._barrier()
            self._consumed[0] = position + step

    def pending_bytes(self) -> int:
        """Return the size of all unreleased records, with the kernel's 8 bytes for each."""
        return (self._produced[0] - self._consumed[0]) % _POSITIONS

    def _copy(self, position: int, count: int) -> bytes:
        copied = b""
        while len(copied) < count:
            window, offset = self._open_window(position + len(copied))
            copied += window[offset : offset + count - len(copied)]
        return copied

    def _open_window(self, position: int) -> tuple[mmap.mmap, int]:
        """Return the window with the byte at ``position``, and its offset there."""
        offset = position % self._size
        start = offset - offset % self._window_bytes
        if start != self._window_start:
            try:
                window = self._map_window(start)
            except OSError as error:
                raise MemoryError(f"the ring buffer can't be mapped: {error}") from error
            self._window.close()
            self._window, self._window_start = window, start
        return self._window, offset - start

    def _map_window(self, start: int) -> mmap.mmap:
        return mmap.mmap(
            self._map_fd,
            self._window_bytes,
            mmap.MAP_SHARED,
            mmap.PROT_READ,
            offset=2 * self._page + start,
        )

    def _barrier(self) -> None:
        """Order memory accesses before this call before those after it.

        Processors that reorder (arm64) don't reorder across a lock's release and acquisition.
        """
        self._fence.release()
        self._fence.acquire()

    def close(self) -> None:
        """Unmap; unreleased records stay in the map."""
        for view in (self._consumed, self._produced):
            view.release()
        for mapped in (self._consumer_page, self._producer_page, self._window):
            mapped.close()
