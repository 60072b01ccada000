"""Values of the model out of the fields of a ring buffer record."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from otel_oom.capture.bpf import records
from otel_oom.capture.bpf.records import (
    MemcgRecord,
    MemcgUsageRecord,
    MemoryRecord,
    PathRecord,
    TaskRecord,
    VictimRecord,
)
from otel_oom.model.text import decode_bytes
from otel_oom.model.types import Memcg, MemcgUsage, Memory, Task, UserFrame
from otel_oom.model.units import PAGE_BYTES

_UNLIMITED_PAGES: Final = (1 << 63) // PAGE_BYTES - 1
"""PAGE_COUNTER_MAX (include/linux/page_counter.h): no limit."""

_MAX_FILE_OFFSET: Final = (1 << 63) - 1
"""Largest loff_t. An address behind the end of a stack may be in front of its mapping."""


def victim_of(record: VictimRecord) -> Task:
    """Return the victim; only its process id where the kernel passed no task."""
    flags = record.header.flags
    if flags & records.FLAG_NO_TASK:
        return Task(record.victim.tgid)
    return replace(
        task_of(record.victim),
        executable=None
        if flags & records.FLAG_NO_EXE
        else _path(record, record.exe, flags & records.FLAG_EXE_CUT),
        command=None if flags & records.FLAG_NO_COMMAND else _command(record),
    )


def task_of(record: TaskRecord) -> Task:
    """Return a task; ids of 0 mean that the kernel had none."""
    return Task(
        tgid=record.tgid,
        tid=record.tid,
        ppid=record.ppid,
        namespaced_pid=record.ns_tgid or None,
        uid=record.uid,
        gid=record.gid,
        pid_ns=record.pid_ns or None,
        mnt_ns=record.mnt_ns or None,
        score_adj=record.score_adj,
        comm=decode_bytes(record.comm),
        start_boottime_ns=record.start_boottime_ns,
    )


def memory_of(record: MemoryRecord) -> Memory:
    """Return the memory of a process, in bytes."""
    return Memory(
        total_vm=record.total_vm,
        anon=record.anon,
        file=record.file,
        shmem=record.shmem,
        swap=record.swap,
        page_tables=record.page_tables,
    )


def usage_of(record: MemcgUsageRecord) -> MemcgUsage:
    """Return the limits and usage of a memory cgroup, in bytes."""
    return MemcgUsage(
        limit=_limit(record.limit_pages),
        usage=record.usage_pages * PAGE_BYTES,
        swap_limit=_limit(record.swap_limit_pages),
        swap_usage=record.swap_usage_pages * PAGE_BYTES,
    )


def _limit(pages: int) -> int | None:
    return None if pages >= _UNLIMITED_PAGES else pages * PAGE_BYTES


def memcg_of(
    record: VictimRecord, memcg: MemcgRecord, absent_flag: int, cut_flag: int
) -> Memcg | None:
    """Return the cgroup ``memcg`` of ``record``; ``None`` if ``absent_flag`` is set."""
    flags = record.header.flags
    if flags & absent_flag:
        return None
    return Memcg(
        id=memcg.id,
        path=_path(record, memcg.path, flags & cut_flag),
        path_cut=bool(flags & cut_flag),
    )


def user_stack_of(record: VictimRecord) -> tuple[UserFrame, ...]:
    """Return the trigger's user stack, less the frames without a build id."""
    return tuple(
        UserFrame(bytes(frame.build_id).hex(), frame.offset)
        for frame in record.user_stack
        if frame.status == 1 and frame.offset <= _MAX_FILE_OFFSET
    )


def _text(record: VictimRecord, span: PathRecord) -> bytes:
    return bytes(record.text)[span.offset : span.offset + span.len]


def _path(record: VictimRecord, span: PathRecord, cut: int) -> str:
    names = _text(record, span).split(b"\0")[: span.components]
    return f"{'…' if cut else ''}/{decode_bytes(b'/'.join(reversed(names)))}"


def _command(record: VictimRecord) -> tuple[str, ...]:
    """Return the words that fit; the last of them may have been cut."""
    words = _text(record, record.command).rstrip(b"\0").split(b"\0")
    return tuple(decode_bytes(word) for word in words)
