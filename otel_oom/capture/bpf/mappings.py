"""The mappings of a victim, out of the kernel side's table of them."""

from __future__ import annotations

import ctypes
import struct
from contextlib import suppress
from typing import Final

from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.pin_set import MAPPINGS_MAP
from otel_oom.capture.bpf.records import MAPPING_KINDS, MAPPING_SLOTS, MappingsRecord
from otel_oom.model.mappings import OTHER, VictimMapping, VictimMappings
from otel_oom.model.text import decode_bytes

_SIZE: Final = ctypes.sizeof(MappingsRecord)
_ENTRIES: Final = MappingsRecord.entries.offset
_ENTRY: Final = struct.Struct("=QQII64s")
"""``struct oom_mapping``: of ctypes, each field of each entry would be an object."""
_MAX_LISTED: Final = 16


class MappingReader:
    """Reader of the kernel side's tables, which later victims overwrite; none with BCC."""

    def __init__(self, maps: BpfObject | None) -> None:
        self._maps = maps

    def read(self, tgid: int, start_boottime_ns: int) -> VictimMappings | None:
        """Return the mappings of the process with this id and start, if they are still there."""
        if self._maps is None:
            return None
        index = tgid % MAPPING_SLOTS
        with (
            suppress(OSError, LibbpfError),
            self._maps.map_value(MAPPINGS_MAP, _SIZE, index=index) as table,
        ):
            content = table.read(0, _SIZE)
            record = MappingsRecord.from_buffer_copy(content)
            is_own = record.tgid == tgid and record.start_boottime_ns == start_boottime_ns
            # A later victim may overwrite the table meanwhile.
            if is_own and content == table.read(0, _SIZE):
                return decode_mappings(record)
        return None


def decode_mappings(record: MappingsRecord) -> VictimMappings:
    """Return the largest entries, and the sum of all others."""
    entries = [entry for entry in _ENTRY.iter_unpack(bytes(record)[_ENTRIES:]) if entry[0]]
    entries.sort(key=lambda entry: -entry[1])
    largest = tuple(
        VictimMapping(
            MAPPING_KINDS.get(kind, OTHER), size, count, decode_bytes(name.partition(b"\0")[0])
        )
        for _, size, count, kind, name in entries[:_MAX_LISTED]
    )
    others = entries[_MAX_LISTED:]
    other = VictimMapping(
        OTHER,
        record.other_bytes + sum(entry[1] for entry in others),
        record.other_count + sum(entry[2] for entry in others),
    )
    return VictimMappings(
        (*largest, *((other,) if other.count else ())),
        count=max(record.map_count, record.mapping_count),
        skipped=max(0, record.map_count - record.mapping_count),
    )
