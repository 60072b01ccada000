"""The consumer of the ring buffer, in memory with the layout of kernel/bpf/ringbuf.c."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.capture.bpf.ring_buffer import RingBuffer, RingError

PAGE = os.sysconf("SC_PAGE_SIZE")
WINDOW = 1 << 16
BUSY, DISCARDED = 1 << 31, 1 << 30


class Kernel:
    """The producer: it writes records, and sees how far they are consumed."""

    def __init__(self, size: int) -> None:
        """Make an empty ring of ``size`` bytes."""
        self.size = size
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + size)
        self.produced = 0

    @property
    def consumed(self) -> int:
        """The consumer's position."""
        return int.from_bytes(os.pread(self.fd, 8, 0), "little")

    def _write(self, position: int, data: bytes) -> None:
        start = position % self.size
        os.pwrite(self.fd, data[: self.size - start], 2 * PAGE + start)
        os.pwrite(self.fd, data[self.size - start :], 2 * PAGE)

    def write(self, data: bytes, bits: int = 0) -> int:
        """Write a record; return its position."""
        position = self.produced
        self._write(position, struct.pack("=II", len(data) | bits, 0) + data)
        self.produce((len(data) + 8 + 7) // 8 * 8)
        return position

    def commit(self, position: int, length: int) -> None:
        """Complete a busy record."""
        self._write(position, struct.pack("=I", length))

    def produce(self, bytes_: int) -> None:
        """Move the producer's position."""
        self.produced += bytes_
        os.pwrite(self.fd, self.produced.to_bytes(8, "little"), PAGE)


@pytest.fixture(params=[PAGE, 4 * WINDOW], ids=["one window", "four windows"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """Make a ring."""
    producer = Kernel(request.param)
    yield producer
    os.close(producer.fd)


@pytest.fixture
def ring(kernel: Kernel) -> Iterator[RingBuffer]:
    """Make its consumer."""
    with closing(RingBuffer(kernel.fd, kernel.size)) as consumer:
        yield consumer


def test_records_come_in_order_and_are_released(kernel: Kernel, ring: RingBuffer) -> None:
    written = [b"", b"a", b"12345678", b"x" * 1000]
    for data in written:
        kernel.write(data)
    assert list(ring.records()) == written
    assert kernel.consumed == kernel.produced
    assert list(ring.records()) == []


def test_record_is_released_when_the_next_is_requested(kernel: Kernel, ring: RingBuffer) -> None:
    """After a failure it comes again."""
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


def test_another_consumer_continues_at_the_position(kernel: Kernel, ring: RingBuffer) -> None:
    """The position is in the ring."""
    kernel.write(b"first")
    kernel.write(b"second")
    records = ring.records()
    assert (next(records), next(records)) == (b"first", b"second")
    with closing(RingBuffer(kernel.fd, kernel.size)) as following:
        assert list(following.records()) == [b"second"]


def test_records_wrap_around_the_end(kernel: Kernel, ring: RingBuffer) -> None:
    """A record has each byte once, wherever the end of the ring is in it."""
    for length in range(400, 600):
        data = bytes(number % 251 for number in range(length * max(1, kernel.size // PAGE // 8)))
        kernel.write(data)
        assert list(ring.records()) == [data]


def test_busy_record_delays_those_after_it(kernel: Kernel, ring: RingBuffer) -> None:
    position = kernel.write(b"half", BUSY)
    kernel.write(b"whole")
    assert list(ring.records()) == []
    assert kernel.consumed == 0
    kernel.commit(position, 4)
    assert list(ring.records()) == [b"half", b"whole"]


def test_discarded_record_is_skipped(kernel: Kernel, ring: RingBuffer) -> None:
    kernel.write(b"nothing", DISCARDED)
    kernel.write(b"something")
    assert list(ring.records()) == [b"something"]


@pytest.mark.parametrize("corruption", ["length", "position"])
def test_corrupt_ring_is_an_error_and_is_emptied(
    kernel: Kernel, ring: RingBuffer, corruption: str
) -> None:
    """Nothing outside its memory is read."""
    position = kernel.write(b"record")
    if corruption == "length":
        kernel.commit(position, 0x3FFFFFFF)
    else:
        kernel.produce(2 * kernel.size)
    with pytest.raises(RingError):
        list(ring.records())
    assert list(ring.records()) == []
    kernel.write(b"next")
    assert list(ring.records()) == [b"next"]


def test_closed_ring_and_other_files_are_errors(ring: RingBuffer) -> None:
    ring.close()
    with pytest.raises(ValueError, match="closed"):
        ring.fileno()
    with Path("/dev/null").open("rb") as null, pytest.raises(OSError, match="denied"):
        RingBuffer(null.fileno(), PAGE)


def test_no_more_than_a_window_is_mapped(kernel: Kernel, ring: RingBuffer) -> None:
    for _ in range(20):
        kernel.write(b"x" * (kernel.size // 3))
        assert len(list(ring.records())) == 1
    maps = [
        line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:ring" in line
    ]
    mapped = sum(
        int(end, 16) - int(start, 16)
        for start, end in (line.split()[0].split("-") for line in maps)
    )
    assert mapped == 2 * PAGE + min(kernel.size, WINDOW)


def test_a_record_that_cannot_be_mapped_stays_in_the_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(4 * WINDOW)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with closing(RingBuffer(kernel.fd, kernel.size)) as ring:
        kernel.write(b"a" * 2 * WINDOW)
        with monkeypatch.context() as patched:
            patched.setattr("mmap.mmap", refuse)
            with pytest.raises(MemoryError, match="Cannot allocate"):
                list(ring.records())
        assert kernel.consumed == 0
        assert list(ring.records()) == [b"a" * 2 * WINDOW]
    os.close(kernel.fd)
