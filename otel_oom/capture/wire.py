"""The ring buffer's records (``bpf/oom.h``) into events.

The layouts below are those of the header, field by field; the tests compare them with the type
information that the compiler put into the BPF object.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, replace

from otel_oom.event import Capture, Memcg, Memory, OomKill, Task, VictimExit

WIRE_VERSION = 1

COMM_LEN = 16
TEXT_LEN = 2048
STACK_LEN = 48

KIND_VICTIM = 1
KIND_EXIT = 2

FLAG_NO_TASK = 1 << 0
FLAG_NO_MM = 1 << 1
FLAG_NO_EXE = 1 << 2
FLAG_NO_MEMCG = 1 << 3
FLAG_MEMCG_CUT = 1 << 4
FLAG_EXE_CUT = 1 << 5


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
        ("reserved", ctypes.c_uint32),
        ("comm", ctypes.c_char * COMM_LEN),
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
        ("parts", ctypes.c_uint32),
    )


class VictimRecord(ctypes.Structure):
    """``struct oom_victim_record``; sent only as long as its text is used."""

    _fields_ = (
        ("header", Header),
        ("victim", TaskRecord),
        ("trigger", TaskRecord),
        ("memory", MemoryRecord),
        ("memcg_id", ctypes.c_uint64),
        ("memcg", PathRecord),
        ("exe", PathRecord),
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


class Counters(ctypes.Structure):
    """``struct oom_counters``, of one CPU."""

    _fields_ = (
        ("sequence", ctypes.c_uint64),
        ("lost_victims", ctypes.c_uint64),
        ("lost_exits", ctypes.c_uint64),
    )


_SIZES = {
    KIND_VICTIM: range(VictimRecord.text.offset, ctypes.sizeof(VictimRecord) + 1),
    KIND_EXIT: range(ctypes.sizeof(ExitRecord), ctypes.sizeof(ExitRecord) + 1),
}
"""How long a record of each kind may be."""


_MARK = "mark_oom_victim"
_MEMBER = "oom_kill_memcg_member"
_DECISION = "oom_kill_process"
_DECISION_NS = 1_000_000_000
"""Longer than one decision takes, shorter than until the same thread has to make another."""


class WireError(ValueError):
    """A record is not of the layout that this version reads."""


@dataclass(slots=True)
class Decoder:
    """Turns records into events; holds what every record of one boot and source shares.

    Records come in the order in which the kernel wrote them, so that the members of a group are
    behind the one that they were killed with.
    """

    boot_id: str
    source: str
    hook: str
    symbol: Callable[[int], str]
    """The name of a kernel address; empty where it has none."""
    _last: OomKill | None = None

    def decode(self, data: bytes, unix_offset_ns: int) -> OomKill | VictimExit:
        """The event in ``data``; ``unix_offset_ns`` leads from the boot clock to Unix time.

        Raises:
            WireError: too short, of another version, or of an unknown kind.
        """
        if len(data) < ctypes.sizeof(Header):
            raise WireError(f"a record of {len(data)} bytes is shorter than its header")
        header = Header.from_buffer_copy(data)
        if header.version != WIRE_VERSION:
            raise WireError(f"a record of wire version {header.version}, not {WIRE_VERSION}")
        if header.size not in _SIZES.get(header.kind, ()) or header.size > len(data):
            raise WireError(
                f"a record of kind {header.kind} with {header.size} of {len(data)} bytes"
            )
        if header.kind == KIND_EXIT:
            return _exit(ExitRecord.from_buffer_copy(data))
        whole = data[: header.size].ljust(ctypes.sizeof(VictimRecord), b"\0")
        return self._kill(VictimRecord.from_buffer_copy(whole), unix_offset_ns)

    def _kill(self, record: VictimRecord, unix_offset_ns: int) -> OomKill:
        flags = record.header.flags
        exe = None if flags & FLAG_NO_EXE else _path(record, record.exe, flags & FLAG_EXE_CUT)
        no_task = flags & FLAG_NO_TASK
        victim = Task(record.victim.tgid) if no_task else _task(record.victim, exe)
        kill = OomKill(
            boot_id=self.boot_id,
            boottime_ns=record.header.boottime_ns,
            time_unix_ns=record.header.boottime_ns + unix_offset_ns,
            victim=victim,
            trigger=_task(record.trigger),
            stack=self._stack(record),
            memory=None if flags & FLAG_NO_MM else _memory(record.memory),
            memcg=None if flags & FLAG_NO_MEMCG else _memcg(record),
            capture=Capture(
                self.source, self.hook, cpu=record.header.cpu, sequence=record.header.sequence
            ),
        )
        kill = replace(kill, incident=self._incident(kill))
        self._last = kill
        return kill

    def _incident(self, kill: OomKill) -> str | None:
        """The kill that ``kill`` was killed along with, if any.

        oom_kill_process() kills its victim, then by oom_kill_memcg_member() the rest of a
        ``memory.oom.group``, all in the trigger's thread and under the kernel's oom_lock.
        """
        last = self._last
        if last is None or not any(frame.startswith(_MEMBER) for frame in kill.stack):
            return None
        same = (
            last.trigger == kill.trigger
            and kill.boottime_ns - last.boottime_ns < _DECISION_NS
            and _outside(last.stack) == _outside(kill.stack)
        )
        return (last.incident or last.uid) if same else None

    def _stack(self, record: VictimRecord) -> tuple[str, ...]:
        """The frames by name; before the mark there are only those of tracing itself."""
        named = [self.symbol(address) for address in record.stack if address]
        marks = [at for at, name in enumerate(named) if name.startswith(_MARK)]
        return tuple(name for name in named[marks[0] if marks else 0 :] if name)


def _outside(stack: tuple[str, ...]) -> list[str]:
    """The functions around the decision: the same for all that it kills."""
    functions = [frame.partition("+")[0] for frame in stack]
    return functions[functions.index(_DECISION) + 1 :] if _DECISION in functions else []


def text(raw: bytes) -> str:
    r"""Bytes that the kernel took from a process, as text; what is not UTF-8 stays as ``\xNN``."""
    return raw.decode("utf-8", errors="backslashreplace")


def _task(record: TaskRecord, executable: str | None = None) -> Task:
    return Task(
        tgid=record.tgid,
        tid=record.tid,
        ppid=record.ppid,
        ns_tgid=record.ns_tgid or None,
        uid=record.uid,
        gid=record.gid,
        pid_ns=record.pid_ns or None,
        mnt_ns=record.mnt_ns or None,
        score_adj=record.score_adj,
        comm=text(record.comm),
        started_ns=record.start_boottime_ns,
        executable=executable,
    )


def _memory(record: MemoryRecord) -> Memory:
    return Memory(
        total_vm=record.total_vm,
        anon=record.anon,
        file=record.file,
        shmem=record.shmem,
        swap=record.swap,
        page_tables=record.page_tables,
    )


def _memcg(record: VictimRecord) -> Memcg:
    cut = record.header.flags & FLAG_MEMCG_CUT
    path = _path(record, record.memcg, cut)
    return Memcg(id=record.memcg_id, path=path, path_cut=bool(cut))


def _path(record: VictimRecord, where: PathRecord, cut: int) -> str:
    raw = bytes(record.text)[where.offset : where.offset + where.len]
    names = raw.split(b"\0")[: where.parts]
    return f"{'…' if cut else ''}/{text(b'/'.join(reversed(names)))}"


def _exit(record: ExitRecord) -> VictimExit:
    return VictimExit(
        tgid=record.tgid,
        started_ns=record.start_boottime_ns,
        boottime_ns=record.header.boottime_ns,
        exit_code=record.exit_code,
    )
