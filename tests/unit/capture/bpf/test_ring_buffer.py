"""The consumer of the ring buffer, over memory laid out as kernel/bpf/ringbuf.c lays it out."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.capture.bpf.ring_buffer import RingBuffer, RingError

PAGE = os.sysconf("SC_PAGE_SIZE")
SIZE = PAGE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Kernel:
    """The other side: it writes records, and sees how far they are consumed."""

    def __init__(self) -> None:
        """An empty ring; the second half of its data mirrors the first."""
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.produced = 0

    @property
    def consumed(self) -> int:
        """The consumer's position."""
        return int.from_bytes(os.pread(self.fd, 8, 0), "little")

    def _write(self, at: int, data: bytes) -> None:
        for offset in (at % SIZE, at % SIZE + SIZE, at % SIZE - SIZE):
            for index, byte in enumerate(data):
                if 0 <= offset + index < 2 * SIZE:
                    os.pwrite(self.fd, bytes([byte]), 2 * PAGE + offset + index)

    def write(self, data: bytes, bits: int = 0) -> int:
        """One more record; where it begins."""
        at = self.produced
        self._write(at, struct.pack("=II", len(data) | bits, 0) + data)
        self.produce((len(data) + 8 + 7) // 8 * 8)
        return at

    def commit(self, at: int, length: int) -> None:
        """A record that was busy is ready."""
        self._write(at, struct.pack("=I", length))

    def produce(self, bytes_: int) -> None:
        """Move the producers' position."""
        self.produced += bytes_
        os.pwrite(self.fd, self.produced.to_bytes(8, "little"), PAGE)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """The ring's other side."""
    made = Kernel()
    yield made
    os.close(made.fd)


@pytest.fixture
def ring(kernel: Kernel) -> Iterator[RingBuffer]:
    """The consumer."""
    with closing(RingBuffer(kernel.fd, SIZE)) as made:
        yield made


def test_records_come_in_order_and_are_let_go_of(kernel: Kernel, ring: RingBuffer) -> None:
    """Of any length, and the kernel has their room again."""
    written = [b"", b"a", b"12345678", b"x" * 1000]
    for data in written:
        kernel.write(data)
    assert list(ring.records()) == written
    assert kernel.consumed == kernel.produced
    assert list(ring.records()) == []


def test_a_record_is_kept_until_the_next_is_asked_for(kernel: Kernel, ring: RingBuffer) -> None:
    """While it is looked at, and after a failure, it is the kernel's; then it comes again."""
    kernel.write(b"first")
    kernel.write(b"second")

    def fail() -> None:
        for record in ring.records():
            assert kernel.consumed == 0
            raise OSError(record)

    for _ in range(2):
        with pytest.raises(OSError, match="first"):
            fail()
    assert list(ring.records()) == [b"first", b"second"]


def test_another_consumer_goes_on_where_one_ended(kernel: Kernel, ring: RingBuffer) -> None:
    """The position is the ring's own."""
    kernel.write(b"first")
    kernel.write(b"second")
    records = ring.records()
    assert (next(records), next(records)) == (b"first", b"second")
    with closing(RingBuffer(kernel.fd, SIZE)) as following:
        assert list(following.records()) == [b"second"]


def test_records_go_around_the_end(kernel: Kernel, ring: RingBuffer) -> None:
    """Some thousand bytes more than the ring holds, each record whole."""
    for number in range(3 * SIZE // 504):
        data = bytes([number]) * 500
        kernel.write(data)
        assert list(ring.records()) == [data]


def test_a_record_that_is_being_written_is_waited_for(kernel: Kernel, ring: RingBuffer) -> None:
    """What is behind it waits as well; nothing is read half."""
    at = kernel.write(b"half", BUSY)
    kernel.write(b"whole")
    assert list(ring.records()) == []
    assert kernel.consumed == 0
    kernel.commit(at, 4)
    assert list(ring.records()) == [b"half", b"whole"]


def test_what_was_given_up_is_passed_over(kernel: Kernel, ring: RingBuffer) -> None:
    """A discarded record is none."""
    kernel.write(b"nothing", DISCARDED)
    kernel.write(b"something")
    assert list(ring.records()) == [b"something"]


@pytest.mark.parametrize("damage", ["length", "position"])
def test_a_damaged_ring_is_told_and_begun_anew(
    kernel: Kernel, ring: RingBuffer, damage: str
) -> None:
    """Nothing beyond its memory is read, and the next record is well again."""
    at = kernel.write(b"record")
    if damage == "length":
        kernel.commit(at, 0x3FFFFFFF)
    else:
        kernel.produce(2 * SIZE)
    with pytest.raises(RingError):
        list(ring.records())
    assert list(ring.records()) == []
    kernel.write(b"next")
    assert list(ring.records()) == [b"next"]


def test_what_is_no_ring_is_refused(ring: RingBuffer) -> None:
    """Neither one that is closed nor another kind of file is read."""
    ring.close()
    with pytest.raises(ValueError, match="closed"):
        ring.fileno()
    with Path("/dev/null").open("rb") as null, pytest.raises(OSError, match="denied"):
        RingBuffer(null.fileno(), SIZE)
