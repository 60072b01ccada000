"""Decode the ring buffer's records into events."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.capture.bpf import records
from otel_oom.capture.bpf.record_values import (
    memcg_of,
    memory_of,
    task_of,
    usage_of,
    user_stack_of,
    victim_of,
)
from otel_oom.capture.bpf.records import (
    DecisionRecord,
    ExitRecord,
    Header,
    ReaperRecord,
    VictimRecord,
)
from otel_oom.linux.kernel_stack import DECISION_FUNCTION, trim_to_decision
from otel_oom.model.events import CapturedEvent, NoVictim, OomKill, ReaperStep, VictimExit
from otel_oom.model.mappings import VictimMappings
from otel_oom.model.start_settings import StartSettings
from otel_oom.model.text import decode_bytes
from otel_oom.model.types import Capture, OomControl
from otel_oom.model.units import PAGE_BYTES

_STACKS_START: Final = VictimRecord.user_stack.offset
_STACKS_END: Final = VictimRecord.text.offset
_VICTIM_SIZES: Final = range(_STACKS_START, ctypes.sizeof(VictimRecord) + 1)
_SIZES: Final = {
    records.KIND_VICTIM: _VICTIM_SIZES,
    records.KIND_SKIPPED: _VICTIM_SIZES,
    records.KIND_NO_VICTIM: _VICTIM_SIZES,
    records.KIND_SIGNAL: _VICTIM_SIZES,
    records.KIND_EXIT: range(ctypes.sizeof(ExitRecord), ctypes.sizeof(ExitRecord) + 1),
    records.KIND_REAPER: range(ctypes.sizeof(ReaperRecord), ctypes.sizeof(ReaperRecord) + 1),
}
"""Valid sizes of a record by its kind, in bytes."""

_GROUP_MEMBER: Final = "oom_kill_memcg_member"
_DECISION_NS: Final = 1_000_000_000
"""Longer than one decision takes, shorter than until the same thread has to make another."""


class WireError(ValueError):
    """A record that does not have this version's layout."""


class Decoder(Struct):
    """Decoder of the records of one boot and source.

    Records come in the order in which the kernel wrote them: the members of a group follow the
    victim that they were killed with.
    """

    boot_id: str
    source: str
    hook: str
    names: Callable[[Sequence[int]], list[str]]
    """Resolves kernel addresses to names; empty where an address has none."""
    decision_source: str = ""
    """Hook that reports decisions; empty without one."""
    gfp_flags: Callable[[int], str | None] = lambda _mask: None
    """Formats a gfp mask by flag names."""
    start_settings: Callable[[int, int], StartSettings | None] = lambda _number, _time: None
    """Reads what a victim was started with, by the number of its copy and the time of its mark."""
    mappings: Callable[[int, int], VictimMappings | None] = lambda _tgid, _start: None
    """Reads the mappings of a victim, by its process id and start."""
    since_ns: int = 0
    """CLOCK_BOOTTIME of the attachment; earlier records are late."""
    _last: OomKill | None = None
    _last_decision_ns: int = 0

    def decode(self, data: bytes, unix_offset_ns: int) -> CapturedEvent:
        """Return the event in ``data``; ``unix_offset_ns`` leads from CLOCK_BOOTTIME to Unix time.

        Raises:
            WireError: too short, of another version, or of an unknown kind.
        """
        header = check_header(data)
        if header.kind == records.KIND_EXIT:
            return _exit(ExitRecord.from_buffer_copy(data))
        if header.kind == records.KIND_REAPER:
            return _reaper_step(ReaperRecord.from_buffer_copy(data))
        if header.kind == records.KIND_SIGNAL:
            raise WireError("a signal in the ring of kills")
        record = read_victim_record(data, header)
        if header.kind == records.KIND_NO_VICTIM:
            shared = self._shared(record, unix_offset_ns)
            return NoVictim(**shared, repeat_count=record.decision.repeats)
        return self._kill(record, unix_offset_ns)

    def _shared(self, record: VictimRecord, unix_offset_ns: int) -> dict[str, Any]:
        """Return the fields that kills and events without a victim share."""
        header = record.header
        return {
            "boot_id": self.boot_id,
            "boottime_ns": header.boottime_ns,
            "time_unix_ns": header.boottime_ns + unix_offset_ns,
            "trigger": task_of(record.trigger),
            "trigger_memcg": memcg_of(
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
                recovered=header.boottime_ns < self.since_ns,
            ),
            "stack": self._stack(record),
            "user_stack": user_stack_of(record),
        }

    def _kill(self, record: VictimRecord, unix_offset_ns: int) -> OomKill:
        flags = record.header.flags
        memcg = memcg_of(record, record.memcg, records.FLAG_NO_MEMCG, records.FLAG_MEMCG_CUT)
        kill = OomKill(
            **self._shared(record, unix_offset_ns),
            victim=replace(
                victim_of(record),
                start=self.start_settings(record.victim.start_text, record.header.boottime_ns),
            ),
            memory=None if flags & records.FLAG_NO_MM else memory_of(record.memory),
            memcg=memcg,
            # The root has no limits, and its counters do not count all.
            memcg_usage=usage_of(record.memcg_usage) if memcg and memcg.path != "/" else None,
            skipped=record.header.kind == records.KIND_SKIPPED,
            mappings=None
            if flags & records.FLAG_NO_MM
            else self.mappings(record.victim.tgid, record.victim.start_boottime_ns),
        )
        kill = replace(kill, incident=self._incident(kill, record.decision.boottime_ns))
        self._last, self._last_decision_ns = kill, record.decision.boottime_ns
        return kill

    def _incident(self, kill: OomKill, decision_ns: int) -> str | None:
        """Return the uid of the kill that ``kill`` was killed along with, if any.

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
                any(frame.startswith(_GROUP_MEMBER) for frame in kill.stack)
                and last.trigger == kill.trigger
                and kill.boottime_ns - last.boottime_ns < _DECISION_NS
                and _outer_functions(last.stack) == _outer_functions(kill.stack)
            )
        return (last.incident or last.uid) if same else None

    def _decision(self, record: VictimRecord) -> OomControl | None:
        if record.header.flags & records.FLAG_NO_DECISION:
            return None
        decision: DecisionRecord = record.decision
        memcg = memcg_of(
            record, record.limit_memcg, records.FLAG_NO_LIMIT_MEMCG, records.FLAG_LIMIT_MEMCG_CUT
        )
        return OomControl(
            source=self.decision_source,
            constraint=records.CONSTRAINTS.get(decision.constraint),
            order=decision.order,
            gfp_mask=decision.gfp_mask,
            gfp_flags=self.gfp_flags(decision.gfp_mask),
            points=None if record.header.kind == records.KIND_NO_VICTIM else decision.chosen_points,
            total_memory=decision.totalpages * PAGE_BYTES,
            message=decode_bytes(decision.message) or None,
            memcg=memcg,
            memcg_usage=usage_of(decision.limit_memcg_usage) if memcg else None,
        )

    def _stack(self, record: VictimRecord) -> tuple[str, ...]:
        return trim_to_decision(self.names([address for address in record.stack if address]))


def check_header(data: bytes) -> Header:
    """Return the header of a record.

    Raises:
        WireError: as for :meth:`Decoder.decode`.
    """
    if len(data) < ctypes.sizeof(Header):
        raise WireError(f"a record of {len(data)} bytes is shorter than its header")
    header = Header.from_buffer_copy(data)
    if header.version != records.WIRE_VERSION:
        raise WireError(f"a record of wire version {header.version}, not {records.WIRE_VERSION}")
    if header.size not in _SIZES.get(header.kind, ()) or header.size > len(data):
        raise WireError(f"a record of kind {header.kind} with {header.size} of {len(data)} bytes")
    return header


def read_victim_record(data: bytes, header: Header) -> VictimRecord:
    """Return a record of the whole size; absent parts are zero."""
    content = data[: header.size]
    if header.flags & records.FLAG_NO_STACKS:
        stacks = bytes(_STACKS_END - _STACKS_START)
        content = content[:_STACKS_START] + stacks + content[_STACKS_START:]
    return VictimRecord.from_buffer_copy(content.ljust(ctypes.sizeof(VictimRecord), b"\0"))


def _outer_functions(stack: tuple[str, ...]) -> list[str]:
    """Return the functions around the decision: the same for all that it kills."""
    functions = [frame.partition("+")[0] for frame in stack]
    return (
        functions[functions.index(DECISION_FUNCTION) + 1 :]
        if DECISION_FUNCTION in functions
        else []
    )


def _exit(record: ExitRecord) -> VictimExit:
    return VictimExit(
        tgid=record.tgid,
        start_boottime_ns=record.start_boottime_ns or None,
        boottime_ns=record.header.boottime_ns,
        exit_code=record.exit_code,
    )


def _reaper_step(record: ReaperRecord) -> ReaperStep:
    stage = records.STAGES.get(record.stage)
    if stage is None:
        raise WireError(f"a reaper record of the unknown stage {record.stage}")
    return ReaperStep(
        tgid=record.tgid,
        start_boottime_ns=record.start_boottime_ns or None,
        boottime_ns=record.header.boottime_ns,
        stage=stage,
        resident=None
        if record.header.flags & records.FLAG_NO_MM
        else memory_of(record.memory).resident,
    )
