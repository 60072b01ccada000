"""The kernel side's table of a victim's mappings, and hostile tables."""

from __future__ import annotations

import ctypes
import errno
import os

from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.mappings import MappingReader, decode_mappings
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.records import MAPPING_SLOTS, MAPPINGS, MappingRecord, MappingsRecord
from otel_oom.model.mappings import VictimMapping, VictimMappings
from tests.unit.capture.bpf.fake_value import FakeValue

TGID, START = 4711, 100


def make_table(*entries: tuple[int, int, int, bytes], **header: int) -> MappingsRecord:
    """Return a table as the kernel side makes it; entries are kind, bytes, count and name."""
    record = MappingsRecord(tgid=TGID, start_boottime_ns=START)
    for field, value in header.items():
        setattr(record, field, value)
    for number, (kind, size, count, name) in enumerate(entries):
        record.entries[number] = MappingRecord(number + 1, size, count, kind, name)
    record.mapping_count = sum(entry[2] for entry in entries) + record.other_count
    record.map_count = record.map_count or record.mapping_count
    return record


class FakeObject(BpfObject):
    """A loaded object with tables by slot, which ``change`` may overwrite after so many reads."""

    def __init__(
        self, tables: dict[int, MappingsRecord], change: tuple[int, bytes] = (0, b"")
    ) -> None:
        self.content = bytearray(ctypes.sizeof(MappingsRecord) * MAPPING_SLOTS)
        for slot, record in tables.items():
            self.write(slot, bytes(record))
        self.change = change
        self.reads = 0
        self.error: LibbpfError | None = None

    def write(self, slot: int, table: bytes) -> None:
        """Write the table of a slot."""
        size = ctypes.sizeof(MappingsRecord)
        self.content[slot * size : (slot + 1) * size] = table

    def map_value(self, map_: str, size: int, *, index: int) -> FakeValue:
        assert (map_, size, index) == ("oom_mappings", len(self.content), 0)
        if self.error:
            raise self.error
        return FakeValue(self._load)

    def _load(self) -> bytes:
        content = bytes(self.content)
        self.reads += 1
        if self.reads == self.change[0]:
            self.write(0, self.change[1])
        return content


def test_the_largest_come_first_and_the_rest_is_a_sum() -> None:
    entries = [(5, 4096 * number, 2, f"lib{number}.so".encode()) for number in range(1, 21)]
    table = make_table(*entries, (1, 1 << 30, 3, b""), other_bytes=7, other_count=1)
    mappings = decode_mappings(table)
    assert mappings.largest[0] == VictimMapping("anonymous", 1 << 30, 3)
    assert mappings.largest[1] == VictimMapping("file", 4096 * 20, 2, "lib20.so")
    assert len(mappings.largest) == 17
    rest = 4096 * sum(range(1, 6)) + 7
    assert mappings.largest[-1] == VictimMapping("other", rest, 5 * 2 + 1)
    assert (mappings.count, mappings.skipped) == (20 * 2 + 3 + 1, 0)
    assert sum(mapping.count for mapping in mappings.largest) == mappings.count


def test_mappings_that_were_not_visited_are_counted() -> None:
    mappings = decode_mappings(make_table((2, 4096, 1, b""), map_count=3000))
    assert (mappings.count, mappings.skipped) == (3000, 2999)


def test_a_table_of_another_process_is_not_read() -> None:
    table = make_table((2, 4096, 1, b""))
    for tgid, start in ((TGID + 1, START), (TGID, START + 1)):
        assert MappingReader(FakeObject({0: table})).read(tgid, start) is None


def test_tables_are_found_in_any_slot_and_mostly_in_the_next() -> None:
    tables = {
        slot: make_table((2, 4096 * slot, 1, b""), tgid=TGID + slot)
        for slot in (0, 1, 5, MAPPING_SLOTS - 1)
    }
    loaded = FakeObject(tables)
    reader = MappingReader(loaded)
    reads = []
    for slot in (5, MAPPING_SLOTS - 1, 0, 1, 0):
        before, mappings = loaded.reads, reader.read(TGID + slot, START)
        assert mappings is not None
        assert mappings.largest[0].size == 4096 * slot
        reads.append(loaded.reads - before)
    assert max(reads) <= MAPPING_SLOTS + 2
    assert reads[2:4] == [3, 3]


def test_a_table_that_is_overwritten_meanwhile_is_not_read() -> None:
    table, later = make_table((2, 4096, 1, b"")), make_table((2, 8192, 1, b""))
    loaded = FakeObject({0: table}, change=(2, bytes(later)))
    assert MappingReader(loaded).read(TGID, START) is None


def test_without_the_map_there_are_no_mappings() -> None:
    loaded = FakeObject({})
    loaded.error = LibbpfError("bpf_map_lookup_elem", errno.EBADF)
    assert MappingReader(loaded).read(TGID, START) is None
    assert MappingReader(None).read(TGID, START) is None


def test_hostile_tables_are_decoded() -> None:
    """Whatever is in the map: names without NUL, bytes that are not UTF-8, unknown kinds."""
    for _ in range(50):
        record = MappingsRecord.from_buffer_copy(os.urandom(ctypes.sizeof(MappingsRecord)))
        mappings = decode_mappings(record)
        assert isinstance(mappings, VictimMappings)
        assert len(mappings.largest) <= 17 < MAPPINGS
        assert all(len(mapping.name) <= 64 * 4 for mapping in mappings.largest)
        assert mappings.skipped >= 0
