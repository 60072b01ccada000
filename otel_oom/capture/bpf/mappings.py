"""The mappings of a victim, out of the kernel side's table of them."""

from __future__ import annotations

import ctypes
import struct
from contextlib import suppress
from typing import Final

from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.pin_set import MAPPINGS_MAP
from otel_oom.capture.bpf.records import (
    MAPPING_KINDS,
    MAPPING_NAME_LEN,
    MAPPING_SLOTS,
    MappingsRecord,
)
from otel_oom.model.mappings import OTHER, VictimMapping, VictimMappings
from otel_oom.model.text import decode_bytes

_SIZE: Final = ctypes.sizeof(MappingsRecord)
_ENTRIES: Final = MappingsRecord.entries.offset
_KEY: Final = struct.Struct("=QI")
"""Start and process id, with which ``struct oom_mappings`` begins."""
_ENTRY: Final = struct.Struct(f"=QQII{MAPPING_NAME_LEN}s")
"""``struct oom_mapping``: of ctypes, each field of each entry would be an object."""
_MAX_LISTED: Final = 16


class MappingReader:
    """Reader of the kernel side's tables, which later victims overwrite; none with BCC."""

    def __init__(self, maps: BpfObject | None) -> None:
        self._maps = maps
        self._next = 0
        """The slot behind that of the last victim: the next one's, unless one was not read."""

    def read(self, tgid: int, start_boottime_ns: int) -> VictimMappings | None:
        """Return the mappings of the process with this id and start, if they are still there."""
        if self._maps is None:
            return None
        wanted = _KEY.pack(start_boottime_ns, tgid)
        size = MAPPING_SLOTS * _SIZE
        with (
            suppress(OSError, LibbpfError),
            self._maps.map_value(MAPPINGS_MAP, size, index=0) as tables,
        ):
            for number in range(self._next, self._next + MAPPING_SLOTS):
                begin = number % MAPPING_SLOTS * _SIZE
                if tables.read(begin, _KEY.size) != wanted:
                    continue
                content = tables.read(begin, _SIZE)
                # A later victim may overwrite the table meanwhile.
                if content == tables.read(begin, _SIZE):
                    self._next = number % MAPPING_SLOTS + 1
                    return decode_mappings(MappingsRecord.from_buffer_copy(content))
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
