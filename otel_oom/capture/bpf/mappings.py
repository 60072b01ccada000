"""The mappings of a victim, out of the kernel side's table of them."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

from otel_oom.capture.bpf.libbpf import LibbpfError
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.pin_set import MAPPINGS_MAP
from otel_oom.capture.bpf.records import MAPPING_KINDS, MAPPING_SLOTS, MappingsRecord
from otel_oom.model.mappings import OTHER, VictimMapping, VictimMappings
from otel_oom.model.text import decode_bytes

_SIZE: Final = ctypes.sizeof(MappingsRecord)
_MAX_LISTED: Final = 16


class MappingReader:
    """Reader of the kernel side's tables, which later victims overwrite; none with BCC."""

    def __init__(self, maps: BpfObject | None) -> None:
        self._maps = maps

    def read(self, tgid: int, start_boottime_ns: int) -> VictimMappings | None:
        """Return the mappings of the process with this id and start, if they are still there."""
        if self._maps is None:
            return None
        with suppress(LibbpfError):
            content = _read_slot(self._maps, tgid)
            record = MappingsRecord.from_buffer_copy(content)
            is_own = record.tgid == tgid and record.start_boottime_ns == start_boottime_ns
            # A later victim may overwrite the table meanwhile.
            if is_own and content == _read_slot(self._maps, tgid):
                return decode_mappings(record)
        return None


def _read_slot(maps: BpfObject, tgid: int) -> bytes:
    return maps.value(MAPPINGS_MAP, _SIZE, index=tgid % MAPPING_SLOTS)


def decode_mappings(record: MappingsRecord) -> VictimMappings:
    """Return the largest entries, and the sum of all others."""
    entries = sorted(
        (
            VictimMapping(
                MAPPING_KINDS.get(entry.kind, OTHER),
                entry.bytes,
                entry.count,
                decode_bytes(entry.name),
            )
            for entry in record.entries
            if entry.key
        ),
        key=lambda mapping: mapping.size,
        reverse=True,
    )
    others = entries[_MAX_LISTED:]
    other = VictimMapping(
        OTHER,
        record.other_bytes + sum(mapping.size for mapping in others),
        record.other_count + sum(mapping.count for mapping in others),
    )
    return VictimMappings(
        (*entries[:_MAX_LISTED], *((other,) if other.count else ())),
        count=max(record.map_count, record.mapping_count),
        skipped=max(0, record.map_count - record.mapping_count),
    )
