"""The consumer of the kernel's ring buffer, which lets go of a record once that is taken.

libbpf's own lets go of a record whatever became of it: one that could not be stored would be in
this process alone. The layout is that of kernel/bpf/ringbuf.c: a page with the consumer's position,
one with the producers', then the data, mapped twice in a row so that no record is broken at its
end. A position only grows; modulo the size it is an offset. A record is its length, of which two
bits have a meaning of their own, four bytes of the kernel's, and its data.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Iterator
from typing import Final

_BUSY: Final = 1 << 31
"""BPF_RINGBUF_BUSY_BIT: a program is still filling it."""
_DISCARDED: Final = 1 << 30
"""BPF_RINGBUF_DISCARD_BIT: a program has given it up."""
_LENGTH: Final = struct.Struct("=I")
_HEADER_BYTES: Final = 8
_ALIGNMENT: Final = 8
_POSITIONS: Final = 1 << (8 * struct.calcsize("L"))
"""A position is an unsigned long, and begins anew behind its end."""


class RingError(Exception):
    """The ring's positions or lengths contradict each other: it is damaged."""


class RingBuffer:
    """The one consumer of a ring buffer map; it never blocks."""

    def __init__(self, map_fd: int, size: int) -> None:
        """Map the ring of ``size`` bytes at ``map_fd``, which stays the caller's.

        Raises:
            OSError: it is no ring buffer of that size.
        """
        page = os.sysconf("SC_PAGE_SIZE")
        self._map_fd = map_fd
        self._size = size
        self._ours = mmap.mmap(map_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # Of the kernel's pages only those are ours in memory that have been read.
        self._kernels = mmap.mmap(
            map_fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
        )
        # An unsigned long of the kernel each, read and written in one piece.
        self._consumed = memoryview(self._ours).cast("L")
        self._produced = memoryview(self._kernels).cast("L")
        self._data = memoryview(self._kernels)[page:]
        self._fence = threading.Lock()
        self._fence.acquire()

    def fileno(self) -> int:
        """A descriptor that is readable when records wait.

        Raises:
            ValueError: it is closed.
        """
        if self._ours.closed:
            raise ValueError("the ring buffer's consumer is closed")
        return self._map_fd

    def records(self) -> Iterator[bytes]:
        """The data of each record that waits, oldest first.

        The kernel may have its room again when the next one is asked for: who stops before that
        is given the same record another time.

        Raises:
            RingError: nothing in the ring can be believed; all of it is let go of.
        """
        while True:
            at, end = self._consumed[0], self._produced[0]
            self._order()
            if at == end:
                return
            (length,) = _LENGTH.unpack_from(self._data, at % self._size)
            self._order()
            if length & _BUSY:
                return
            size = length & ~_DISCARDED
            following = at + (size + _HEADER_BYTES + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
            if not following <= end <= at + self._size:
                self._consumed[0] = end
                raise RingError(f"a record of {size} bytes in {end - at} of a ring of {self._size}")
            if not length & _DISCARDED:
                start = at % self._size + _HEADER_BYTES
                yield bytes(self._data[start : start + size])
            self._order()
            self._consumed[0] = following

    def held(self) -> int:
        """How many bytes wait, with the kernel's own 8 for each record."""
        return (self._produced[0] - self._consumed[0]) % _POSITIONS

    def _order(self) -> None:
        """What was read and written before this line is so before what comes after it.

        Processors that reorder (arm64) do not do so across a lock's release and its next taking.
        """
        self._fence.release()
        self._fence.acquire()

    def close(self) -> None:
        """Unmap; what waits stays in the map."""
        for view in (self._consumed, self._produced, self._data):
            view.release()
        self._ours.close()
        self._kernels.close()
