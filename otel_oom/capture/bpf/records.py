"""The layout of the ring buffer's records (``bpf/events.h``).

The structures below are those of the header, field by field; the tests compare them with the type
information that the compiler put into the BPF object.
"""

from __future__ import annotations

import ctypes

WIRE_VERSION = 4

COMM_LEN = 16
TEXT_LEN = 4096
STACK_LEN = 48
MESSAGE_LEN = 48
USER_STACK_LEN = 16
BUILD_ID_LEN = 20
MAX_MARKS = 8192
HOLDER_LEN = 128
UNIT_LEN = 24
SIGNAL_RING_BYTES = 1 << 18
CHUNK_LEN = 4096
ARGUMENT_CHUNKS = 3
ENVIRON_CHUNKS = 7
START_TEXTS = 16
MAPPINGS = 32
MAPPING_NAME_LEN = 64
MAPPING_SLOTS = 128

KIND_VICTIM = 1
KIND_EXIT = 2
KIND_SKIPPED = 3
KIND_NO_VICTIM = 4
KIND_REAPER = 5
KIND_SIGNAL = 6

FLAG_NO_TASK = 1 << 0
FLAG_NO_MM = 1 << 1
FLAG_NO_EXE = 1 << 2
FLAG_NO_MEMCG = 1 << 3
FLAG_MEMCG_CUT = 1 << 4
FLAG_EXE_CUT = 1 << 5
FLAG_NO_DECISION = 1 << 6
FLAG_NO_LIMIT_MEMCG = 1 << 7
FLAG_LIMIT_MEMCG_CUT = 1 << 8
FLAG_NO_TRIGGER_MEMCG = 1 << 9
FLAG_TRIGGER_MEMCG_CUT = 1 << 10
FLAG_NO_COMMAND = 1 << 11
FLAG_NO_STACKS = 1 << 12

STAGES = {1: "wake", 2: "start", 3: "finish", 4: "skip"}
"""``enum oom_reaper_stage``."""

MAPPING_KINDS = {
    1: "anonymous",
    2: "heap",
    3: "stack",
    4: "shmem",
    5: "file",
    6: "hugetlb",
    7: "reserved",
    8: "special",
}
"""``enum oom_mapping_kind``."""

CONSTRAINTS = {0: "none", 1: "cpuset", 2: "memory_policy", 3: "memcg"}
"""The kernel's ``enum oom_constraint``."""


class Header(ctypes.Structure):
    """``struct oom_header``."""

    _fields_ = (
        ("version", ctypes.c_uint16),
        ("kind", ctypes.c_uint16),
        ("size", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("sequence", ctypes.c_uint64),
        ("boottime_ns", ctypes.c_uint64),
    )


class TaskRecord(ctypes.Structure):
    """``struct oom_task``."""

    _fields_ = (
        ("start_boottime_ns", ctypes.c_uint64),
        ("tgid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("ppid", ctypes.c_uint32),
        ("ns_tgid", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("pid_ns", ctypes.c_uint32),
        ("mnt_ns", ctypes.c_uint32),
        ("score_adj", ctypes.c_int32),
        ("start_text", ctypes.c_uint32),
        ("comm", ctypes.c_char * COMM_LEN),
    )


class UserTextRecord(ctypes.Structure):
    """``struct oom_user_text``."""

    _fields_ = (
        ("begin", ctypes.c_uint64),
        ("end", ctypes.c_uint64),
        ("read_chunks", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class StartTextRecord(ctypes.Structure):
    """``struct oom_start_text``."""

    _fields_ = (
        ("boottime_ns", ctypes.c_uint64),
        ("arguments", UserTextRecord),
        ("environ", UserTextRecord),
        ("argument_chunks", ctypes.c_uint8 * (ARGUMENT_CHUNKS * CHUNK_LEN)),
        ("environ_chunks", ctypes.c_uint8 * (ENVIRON_CHUNKS * CHUNK_LEN)),
    )


class MappingRecord(ctypes.Structure):
    """``struct oom_mapping``."""

    _fields_ = (
        ("key", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("count", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("name", ctypes.c_char * MAPPING_NAME_LEN),
    )


class MappingsRecord(ctypes.Structure):
    """``struct oom_mappings``."""

    _fields_ = (
        ("start_boottime_ns", ctypes.c_uint64),
        ("tgid", ctypes.c_uint32),
        ("map_count", ctypes.c_uint32),
        ("mapping_count", ctypes.c_uint32),
        ("other_count", ctypes.c_uint32),
        ("other_bytes", ctypes.c_uint64),
        ("steps", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("entries", MappingRecord * MAPPINGS),
    )


class MemoryRecord(ctypes.Structure):
    """``struct oom_memory``."""

    _fields_ = (
        ("total_vm", ctypes.c_uint64),
        ("anon", ctypes.c_uint64),
        ("file", ctypes.c_uint64),
        ("shmem", ctypes.c_uint64),
        ("swap", ctypes.c_uint64),
        ("page_tables", ctypes.c_uint64),
    )


class PathRecord(ctypes.Structure):
    """``struct oom_path``."""

    _fields_ = (
        ("offset", ctypes.c_uint16),
        ("len", ctypes.c_uint16),
        ("components", ctypes.c_uint32),
    )


class MemcgRecord(ctypes.Structure):
    """``struct oom_memcg``."""

    _fields_ = (("id", ctypes.c_uint64), ("path", PathRecord))


class MemcgUsageRecord(ctypes.Structure):
    """``struct oom_memcg_usage``."""

    _fields_ = (
        ("limit_pages", ctypes.c_uint64),
        ("usage_pages", ctypes.c_uint64),
        ("swap_limit_pages", ctypes.c_uint64),
        ("swap_usage_pages", ctypes.c_uint64),
    )


class DecisionRecord(ctypes.Structure):
    """``struct oom_decision``."""

    _fields_ = (
        ("boottime_ns", ctypes.c_uint64),
        ("totalpages", ctypes.c_uint64),
        ("chosen_points", ctypes.c_int64),
        ("limit_memcg_usage", MemcgUsageRecord),
        ("gfp_mask", ctypes.c_uint32),
        ("order", ctypes.c_int32),
        ("constraint", ctypes.c_int32),
        ("repeats", ctypes.c_uint32),
        ("message", ctypes.c_char * MESSAGE_LEN),
    )


class UserFrameRecord(ctypes.Structure):
    """``struct oom_user_frame``."""

    _fields_ = (
        ("status", ctypes.c_int32),
        ("build_id", ctypes.c_uint8 * BUILD_ID_LEN),
        ("offset", ctypes.c_uint64),
    )


class VictimRecord(ctypes.Structure):
    """``struct oom_victim_record``; sent only as long as its text is used."""

    _fields_ = (
        ("header", Header),
        ("victim", TaskRecord),
        ("trigger", TaskRecord),
        ("memory", MemoryRecord),
        ("decision", DecisionRecord),
        ("memcg", MemcgRecord),
        ("trigger_memcg", MemcgRecord),
        ("limit_memcg", MemcgRecord),
        ("memcg_usage", MemcgUsageRecord),
        ("exe", PathRecord),
        ("command", PathRecord),
        ("text_len", ctypes.c_uint32),
        ("signal", ctypes.c_uint32),
        ("user_stack", UserFrameRecord * USER_STACK_LEN),
        ("stack", ctypes.c_uint64 * STACK_LEN),
        ("text", ctypes.c_uint8 * TEXT_LEN),
    )


class ExitRecord(ctypes.Structure):
    """``struct oom_exit_record``."""

    _fields_ = (
        ("header", Header),
        ("start_boottime_ns", ctypes.c_uint64),
        ("tgid", ctypes.c_uint32),
        ("exit_code", ctypes.c_uint32),
    )


class ReaperRecord(ctypes.Structure):
    """``struct oom_reaper_record``."""

    _fields_ = (
        ("header", Header),
        ("start_boottime_ns", ctypes.c_uint64),
        ("tgid", ctypes.c_uint32),
        ("stage", ctypes.c_uint32),
        ("memory", MemoryRecord),
    )


class MarkRecord(ctypes.Structure):
    """``struct oom_mark``."""

    _fields_ = (
        ("boottime_ns", ctypes.c_uint64),
        ("monotonic_ns", ctypes.c_uint64),
        ("start_boottime_ns", ctypes.c_uint64),
        ("tgid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("comm", ctypes.c_char * COMM_LEN),
    )


class Counters(ctypes.Structure):
    """``struct oom_counters``, of one CPU."""

    _fields_ = (
        ("sequence", ctypes.c_uint64),
        ("lost_victims", ctypes.c_uint64),
        ("lost_exits", ctypes.c_uint64),
    )


class LostKills(ctypes.Structure):
    """``struct oom_lost_kills``, of one holder."""

    _fields_ = (("count", ctypes.c_uint64), ("name", ctypes.c_char * HOLDER_LEN))


class SysrqRequest(ctypes.Structure):
    """``struct oom_sysrq_request``, of one CPU."""

    _fields_ = (("boottime_ns", ctypes.c_uint64), ("unit", ctypes.c_char * UNIT_LEN))
