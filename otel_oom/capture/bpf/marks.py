"""The kernel side's marks: of its last victims, whatever became of their records."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Collection
from typing import Final

from otel_oom.capture.bpf import records as wire
from otel_oom.capture.bpf.records import MarkRecord
from otel_oom.capture.mark_matching import KillMark
from otel_oom.model.text import decode_bytes

MARKS: Final = "oom_marks"
COUNT: Final = "oom_mark_count"


def read_marks(map_fd: int, tids: Collection[int]) -> list[KillMark]:
    """The marks of these threads in the map at ``map_fd``, which stays the caller's.

    One that is being written meanwhile may come out torn: it is of a victim that was not told of
    before this was called.

    Raises:
        OSError: the map can't be read.
    """
    records = MarkRecord * wire.MAX_MARKS
    with mmap.mmap(map_fd, ctypes.sizeof(records), mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
        found = records.from_buffer_copy(mapped)
    return [_mark(record) for record in found if record.tid and record.tid in tids]


def _mark(record: MarkRecord) -> KillMark:
    # Without a task there was nothing to read a start and a name of.
    started_ns = record.start_boottime_ns or None
    return KillMark(
        boottime_ns=record.boottime_ns,
        monotonic_ns=record.monotonic_ns,
        started_ns=started_ns,
        tgid=record.tgid,
        tid=record.tid,
        comm=decode_bytes(record.comm) if started_ns else None,
    )
