"""The kernel side's copy of what a victim was started with, and hostile copies."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable

import pytest

from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.maps import Maps
from otel_oom.capture.bpf.records import (
    CHUNK_LEN,
    ENVIRON_CHUNKS,
    START_TEXTS,
    StartTextRecord,
    UserTextRecord,
)
from otel_oom.capture.bpf.start_text import StartTextReader, read_start_text, select_allowed
from otel_oom.model.start_settings import MARK, StartSettings
from tests.unit.capture.bpf.fake_value import FakeValue

ADDRESS = 0x7FFC_0000_0000
NAME = "OTEL_SERVICE_NAME"


def fill(
    text: UserTextRecord, chunks: ctypes.Array[ctypes.c_uint8], content: bytes, at: int
) -> None:
    """Lay ``content`` out as at address ``at``, all of whose pages are present."""
    text.begin, text.end = at, at + len(content)
    offset = at % CHUNK_LEN
    stored = content[: len(chunks) - offset]
    ctypes.memset(chunks, ord("#"), len(chunks))
    ctypes.memmove(ctypes.byref(chunks, offset), stored, len(stored))
    text.read_chunks = (1 << (offset + len(stored) + CHUNK_LEN - 1) // CHUNK_LEN) - 1


def make_copy(
    environ: bytes,
    arguments: bytes = b"java\0",
    at: int = ADDRESS + 4000,
    boottime_ns: int = 500,
) -> StartTextRecord:
    """Return a copy as the kernel side makes it."""
    record = StartTextRecord(boottime_ns=boottime_ns)
    fill(record.arguments, record.argument_chunks, arguments, at)
    fill(record.environ, record.environ_chunks, environ, at)
    return record


def decode_start_text(record: StartTextRecord) -> StartSettings | None:
    """Return the allowed part of a copy."""
    return select_allowed(*read_start_text(FakeValue(lambda: bytes(record))))


def test_only_the_allowed_part_is_kept() -> None:
    environ = b"PASSWORD=hunter2\0OTEL_SERVICE_NAME=shop\0JAVA_TOOL_OPTIONS=-Xmx1g -Dkey=hunter2\0"
    arguments = b"java\0-Xmx512m\0-Dpassword=hunter2\0-jar\0shop.jar\0hunter2\0"
    start = decode_start_text(make_copy(environ, arguments))
    assert start == StartSettings(
        MARK, {NAME: "shop"}, {"JAVA_TOOL_OPTIONS": "-Xmx1g", "-Xmx": "512m"}
    )
    assert "hunter2" not in repr(start)


def test_a_text_over_several_pages_is_whole() -> None:
    filler = b"".join(b"V%d=%s\0" % (index, b"x" * 90) for index in range(120))
    start = decode_start_text(make_copy(filler + b"OTEL_SERVICE_NAME=shop\0"))
    assert start == StartSettings(MARK, {NAME: "shop"})


def test_what_a_missing_page_cuts_is_left_out() -> None:
    """A name that continues on the page after would be another name."""
    before = b"A=%s\0OTEL_SERVICE_NAME=" % (b"x" * (CHUNK_LEN - 24))
    record = make_copy(before + b"shop\0OTEL_RESOURCE_ATTRIBUTES=a=b\0", at=ADDRESS)
    assert len(before) < CHUNK_LEN < len(before) + 4
    whole = decode_start_text(record)
    assert whole == StartSettings(MARK, {NAME: "shop", "OTEL_RESOURCE_ATTRIBUTES": "a=b"})
    record.environ.read_chunks = 0b01
    assert decode_start_text(record) == StartSettings(MARK, is_complete=False, has_command=False)
    record.environ.read_chunks = 0b10
    assert decode_start_text(record) == StartSettings(
        MARK, {"OTEL_RESOURCE_ATTRIBUTES": "a=b"}, is_complete=False, has_command=False
    )
    record.environ.read_chunks = 0
    assert decode_start_text(record) is None


def test_a_text_beyond_the_bound_is_not_complete() -> None:
    filler = b"A=%s\0" % (b"x" * ENVIRON_CHUNKS * CHUNK_LEN)
    start = decode_start_text(
        make_copy(b"OTEL_SERVICE_NAME=shop\0" + filler + b"OTEL_RESOURCE_ATTRIBUTES=a=b\0")
    )
    assert start == StartSettings(MARK, {NAME: "shop"}, is_complete=False, has_command=False)


def test_a_title_in_place_of_the_environment_is_none() -> None:
    assert decode_start_text(make_copy(b"nginx: worker process\0\0\0")) is None


def test_hostile_numbers() -> None:
    generator = random.Random(17)  # noqa: S311  the same bytes each time
    for _ in range(300):
        record = StartTextRecord.from_buffer_copy(
            generator.randbytes(ctypes.sizeof(StartTextRecord))
        )
        record.environ.begin = generator.choice([0, 1, ADDRESS, 2**64 - 1])
        record.environ.end = generator.choice([0, 1, ADDRESS + 9, 2**64 - 1])
        start = decode_start_text(record)
        assert start is None or not start.environ


class FakeMaps(Maps):
    """One array map in memory."""

    def __init__(self, copies: dict[int, bytes]) -> None:
        self.copies = copies
        self.overwrite: Callable[[bytes], bytes] = bytes
        """What the kernel side makes of a copy while it is read or written."""

    def map_fd(self, name: str) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def map_value(self, map_: str, size: int, *, index: int) -> FakeValue:
        if index not in self.copies:
            raise LibbpfError(map_, 2)
        assert size == len(self.copies[index])

        def load() -> bytes:
            content = self.copies[index]
            self.copies[index] = self.overwrite(content)
            return content

        def store(content: bytes) -> None:
            self.copies[index] = self.overwrite(content)

        return FakeValue(load, store)


def test_a_copy_is_read_by_its_own_kill_and_wiped() -> None:
    maps = FakeMaps({2: bytes(make_copy(b"OTEL_SERVICE_NAME=shop\0"))})
    reader = StartTextReader(maps)
    assert reader.read(3, 501) is None
    reader.wipe()
    assert b"shop" in maps.copies[2]
    assert reader.read(3, 500) == StartSettings(MARK, {NAME: "shop"})
    reader.wipe()
    assert not any(maps.copies[2])
    assert reader.read(3, 500) is None


@pytest.mark.parametrize("number", [0, 1, START_TEXTS + 1, 2**32 - 1])
def test_a_number_without_a_copy(number: int) -> None:
    assert StartTextReader(FakeMaps({})).read(number, 500) is None


def test_a_copy_that_a_later_kill_overwrites_while_it_is_read_is_nobodys() -> None:
    """The kernel writes the later kill's time first, then its text over the earlier one."""
    later = bytes(make_copy(b"OTEL_SERVICE_NAME=later\0", boottime_ns=600))
    torn = bytes(make_copy(b"OTEL_SERVICE_NAME=earlier\0"))[:8] + later[8:]
    maps = FakeMaps({2: torn})
    maps.overwrite = lambda _: later
    reader = StartTextReader(maps)
    assert reader.read(3, 500) is None
    reader.wipe()
    assert reader.read(3, 600) == StartSettings(MARK, {NAME: "later"})


def test_a_wipe_does_not_reach_the_copy_of_a_later_kill() -> None:
    maps = FakeMaps({2: bytes(make_copy(b"OTEL_SERVICE_NAME=earlier\0"))})
    reader = StartTextReader(maps)
    assert reader.read(3, 500)
    maps.copies[2] = bytes(make_copy(b"OTEL_SERVICE_NAME=later\0", boottime_ns=600))
    reader.wipe()
    assert reader.read(3, 600) == StartSettings(MARK, {NAME: "later"})


def test_a_copy_that_a_wipe_may_have_met_is_nobodys() -> None:
    """Else a wipe could shorten a name."""
    cut = bytes(make_copy(b"OTEL_SERVICE_NAME=sh\0\0\0", boottime_ns=600))
    maps = FakeMaps({2: bytes(make_copy(b"OTEL_SERVICE_NAME=earlier\0"))})
    reader = StartTextReader(maps)
    assert reader.read(3, 500)
    maps.overwrite = lambda content: content if any(content) else cut
    reader.wipe()
    assert reader.read(3, 600) is None
    maps.copies[2] = bytes(make_copy(b"OTEL_SERVICE_NAME=next\0", boottime_ns=700))
    assert reader.read(3, 700) == StartSettings(MARK, {NAME: "next"})
