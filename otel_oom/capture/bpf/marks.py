"""Read the kernel side's marks of its last victims, which outlive their records."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Collection
from typing import Final

from otel_oom.capture.bpf.records import MAX_MARKS, MarkRecord
from otel_oom.capture.mark_matching import KillMark
from otel_oom.model.text import decode_bytes

MARKS: Final = "oom_marks"
COUNT: Final = "oom_mark_count"


def read_marks(map_fd: int, tids: Collection[int]) -> list[KillMark]:
    """Read the marks of threads from the map at ``map_fd``, which stays the caller's.

    A mark that is written meanwhile may be torn; its kill happened after this call.

    Raises:
        OSError: the map can't be read.
    """
    record_array = MarkRecord * MAX_MARKS
    with mmap.mmap(map_fd, ctypes.sizeof(record_array), mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        records = record_array.from_buffer_copy(memory)
    return [_mark(record) for record in records if record.tid and record.tid in tids]


def _mark(record: MarkRecord) -> KillMark:
    # Without a task the kernel side could read neither start nor name.
    start_boottime_ns = record.start_boottime_ns or None
    return KillMark(
        boottime_ns=record.boottime_ns,
        monotonic_ns=record.monotonic_ns,
        start_boottime_ns=start_boottime_ns,
        tgid=record.tgid,
        tid=record.tid,
        comm=decode_bytes(record.comm) if start_boottime_ns else None,
    )
