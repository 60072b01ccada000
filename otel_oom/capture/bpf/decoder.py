"""The ring buffer's records into events."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from otel_oom.capture.bpf import records
from otel_oom.capture.bpf.records import (
    DecisionRecord,
    ExitRecord,
    Header,
    MemcgRecord,
    MemcgUsageRecord,
    MemoryRecord,
    PathRecord,
    ReaperRecord,
    TaskRecord,
    VictimRecord,
)
from otel_oom.linux.kernel_stack import DECISION, outwards
from otel_oom.model.events import CapturedEvent, NoVictim, OomKill, ReaperStep, VictimExit
from otel_oom.model.types import Capture, Memcg, MemcgUsage, Memory, OomControl, Task, UserFrame

_VICTIM_SIZES = range(VictimRecord.text.offset, ctypes.sizeof(VictimRecord) + 1)
_SIZES = {
    records.KIND_VICTIM: _VICTIM_SIZES,
    records.KIND_SKIPPED: _VICTIM_SIZES,
    records.KIND_NO_VICTIM: _VICTIM_SIZES,
    records.KIND_EXIT: range(ctypes.sizeof(ExitRecord), ctypes.sizeof(ExitRecord) + 1),
    records.KIND_REAPER: range(ctypes.sizeof(ReaperRecord), ctypes.sizeof(ReaperRecord) + 1),
}
"""How long a record of each kind may be."""

_MEMBER = "oom_kill_memcg_member"
_DECISION_NS = 1_000_000_000
"""Longer than one decision takes, shorter than until the same thread has to make another."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_UNLIMITED_PAGES = (1 << 63) // _PAGE - 1
"""PAGE_COUNTER_MAX (include/linux/page_counter.h): no limit."""

_OFFSET_MAX = (1 << 63) - 1
"""Of a file (loff_t). An address behind the end of a stack may be in front of its mapping."""


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
    names: Callable[[Sequence[int]], list[str]]
    """The names of kernel addresses; empty where one has none."""
    context: str = ""
    """The hook that tells of decisions, if there is one."""
    gfp_flags: Callable[[int], str | None] = lambda _mask: None
    """A request's flags by name."""
    since_ns: int = 0
    """When the source was attached, on CLOCK_BOOTTIME: what was before it is late."""
    _last: OomKill | None = None
    _last_decision_ns: int = 0

    def decode(self, data: bytes, unix_offset_ns: int) -> CapturedEvent:
        """The event in ``data``; ``unix_offset_ns`` leads from the boot clock to Unix time.

        Raises:
            WireError: too short, of another version, or of an unknown kind.
        """
        if len(data) < ctypes.sizeof(Header):
            raise WireError(f"a record of {len(data)} bytes is shorter than its header")
        header = Header.from_buffer_copy(data)
        if header.version != records.WIRE_VERSION:
            raise WireError(
                f"a record of wire version {header.version}, not {records.WIRE_VERSION}"
            )
        if header.size not in _SIZES.get(header.kind, ()) or header.size > len(data):
            raise WireError(
                f"a record of kind {header.kind} with {header.size} of {len(data)} bytes"
            )
        if header.kind == records.KIND_EXIT:
            return _exit(ExitRecord.from_buffer_copy(data))
        if header.kind == records.KIND_REAPER:
            return _reaping(ReaperRecord.from_buffer_copy(data))
        whole = data[: header.size].ljust(ctypes.sizeof(VictimRecord), b"\0")
        record = VictimRecord.from_buffer_copy(whole)
        if header.kind == records.KIND_NO_VICTIM:
            shared = self._incident(record, unix_offset_ns)
            return NoVictim(**shared, repeats=record.decision.repeats)
        return self._kill(record, unix_offset_ns)

    def _incident(self, record: VictimRecord, unix_offset_ns: int) -> dict[str, Any]:
        """What every event about one want of memory has."""
        header = record.header
        return {
            "boot_id": self.boot_id,
            "boottime_ns": header.boottime_ns,
            "time_unix_ns": header.boottime_ns + unix_offset_ns,
            "trigger": _task(record.trigger),
            "trigger_memcg": _memcg(
                record,
                record.trigger_memcg,
                records.FLAG_NO_TRIGGER_MEMCG,
                records.FLAG_TRIGGER_MEMCG_CUT,
            ),
            "decision": self._decision(record),
            "capture": Capture(
                self.source,
                self.hook,
                header.cpu,
                header.sequence,
                late=header.boottime_ns < self.since_ns,
            ),
            "stack": self._stack(record),
            "user_stack": tuple(
                UserFrame(bytes(frame.build_id).hex(), frame.offset)
                for frame in record.user_stack
                if frame.status == 1 and frame.offset <= _OFFSET_MAX
            ),
        }

    def _kill(self, record: VictimRecord, unix_offset_ns: int) -> OomKill:
        flags = record.header.flags
        memcg = _memcg(record, record.memcg, records.FLAG_NO_MEMCG, records.FLAG_MEMCG_CUT)
        kill = OomKill(
            **self._incident(record, unix_offset_ns),
            victim=_victim(record),
            memory=None if flags & records.FLAG_NO_MM else _memory(record.memory),
            memcg=memcg,
            # The root has no bounds, and its counters do not count all.
            limits=_limits(record.memcg_usage) if memcg and memcg.path != "/" else None,
            skipped=record.header.kind == records.KIND_SKIPPED,
        )
        kill = replace(kill, incident=self._incident_of(kill, record.decision.boottime_ns))
        self._last, self._last_decision_ns = kill, record.decision.boottime_ns
        return kill

    def _incident_of(self, kill: OomKill, decision_ns: int) -> str | None:
        """The kill that ``kill`` was killed along with, if any.

        oom_kill_process() kills its victim, then by oom_kill_memcg_member() the rest of a
        ``memory.oom.group``, all in the trigger's thread and under the kernel's oom_lock.
        """
        last = self._last
        if last is None:
            return None
        if decision_ns:
            same = decision_ns == self._last_decision_ns
        else:
            same = (
                any(frame.startswith(_MEMBER) for frame in kill.stack)
                and last.trigger == kill.trigger
                and kill.boottime_ns - last.boottime_ns < _DECISION_NS
                and _outside(last.stack) == _outside(kill.stack)
            )
        return (last.incident or last.uid) if same else None

    def _decision(self, record: VictimRecord) -> OomControl | None:
        if record.header.flags & records.FLAG_NO_DECISION:
            return None
        told: DecisionRecord = record.decision
        memcg = _memcg(
            record, record.limit_memcg, records.FLAG_NO_LIMIT_MEMCG, records.FLAG_LIMIT_MEMCG_CUT
        )
        return OomControl(
            hook=self.context,
            constraint=records.CONSTRAINTS.get(told.constraint),
            order=told.order,
            gfp_mask=told.gfp_mask,
            gfp_flags=self.gfp_flags(told.gfp_mask),
            points=None if record.header.kind == records.KIND_NO_VICTIM else told.chosen_points,
            capacity=told.totalpages * _PAGE,
            message=text(told.message) or None,
            memcg=memcg,
            limits=_limits(told.limit_memcg_usage) if memcg else None,
        )

    def _stack(self, record: VictimRecord) -> tuple[str, ...]:
        return outwards(self.names([address for address in record.stack if address]))


def _outside(stack: tuple[str, ...]) -> list[str]:
    """The functions around the decision: the same for all that it kills."""
    functions = [frame.partition("+")[0] for frame in stack]
    return functions[functions.index(DECISION) + 1 :] if DECISION in functions else []


def text(raw: bytes) -> str:
    r"""Bytes that the kernel took from a process, as text; what is not UTF-8 stays as ``\xNN``."""
    return raw.decode("utf-8", errors="backslashreplace")


def _victim(record: VictimRecord) -> Task:
    flags = record.header.flags
    if flags & records.FLAG_NO_TASK:
        return Task(record.victim.tgid)
    return replace(
        _task(record.victim),
        executable=None
        if flags & records.FLAG_NO_EXE
        else _path(record, record.exe, flags & records.FLAG_EXE_CUT),
        command=None if flags & records.FLAG_NO_COMMAND else _command(record),
    )


def _task(record: TaskRecord) -> Task:
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


def _limits(told: MemcgUsageRecord) -> MemcgUsage:
    return MemcgUsage(
        limit=_bound(told.limit_pages),
        usage=told.usage_pages * _PAGE,
        swap_limit=_bound(told.swap_limit_pages),
        swap_usage=told.swap_usage_pages * _PAGE,
    )


def _bound(pages: int) -> int | None:
    return None if pages >= _UNLIMITED_PAGES else pages * _PAGE


def _memcg(record: VictimRecord, where: MemcgRecord, none: int, cut: int) -> Memcg | None:
    flags = record.header.flags
    if flags & none:
        return None
    return Memcg(
        id=where.id, path=_path(record, where.path, flags & cut), path_cut=bool(flags & cut)
    )


def _text(record: VictimRecord, where: PathRecord) -> bytes:
    return bytes(record.text)[where.offset : where.offset + where.len]


def _path(record: VictimRecord, where: PathRecord, cut: int) -> str:
    names = _text(record, where).split(b"\0")[: where.components]
    return f"{'…' if cut else ''}/{text(b'/'.join(reversed(names)))}"


def _command(record: VictimRecord) -> tuple[str, ...]:
    """The words that fit; the last of them may have been cut."""
    return tuple(text(word) for word in _text(record, record.command).rstrip(b"\0").split(b"\0"))


def _exit(record: ExitRecord) -> VictimExit:
    return VictimExit(
        tgid=record.tgid,
        started_ns=record.start_boottime_ns or None,
        boottime_ns=record.header.boottime_ns,
        exit_code=record.exit_code,
    )


def _reaping(record: ReaperRecord) -> ReaperStep:
    stage = records.STAGES.get(record.stage)
    if stage is None:
        raise WireError(f"a reaper record of the unknown stage {record.stage}")
    return ReaperStep(
        tgid=record.tgid,
        started_ns=record.start_boottime_ns or None,
        boottime_ns=record.header.boottime_ns,
        stage=stage,
        resident=None
        if record.header.flags & records.FLAG_NO_MM
        else _memory(record.memory).resident,
    )
