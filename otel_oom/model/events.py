"""The events: kills, OOM without a victim, panics, and how victims end."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from otel_oom.model.event_base import (
    OomEvent,
    derive_span_id,
    derive_trace_id,
    derive_uuid,
    is_exiting_victim,
)
from otel_oom.model.loss import DroppedEvents, MissedKills
from otel_oom.model.mappings import VictimMappings
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.types import Memcg, MemcgUsage, Memory, Task, TaskList, UserspaceOomDaemon


class OomKill(OomEvent, frozen=True, kw_only=True):
    """A process marked as an OOM victim (``mark_oom_victim()`` of mm/oom_kill.c).

    The trigger is often, not always, the victim. ``incident`` is the ``uid`` of the first kill, set
    for a process killed along with another (``memory.oom.group``). ``skipped``: the chosen process
    had released its memory before it could be killed. ``memcg_usage`` is that of ``memcg``: at the
    mark, else read after it. ``original`` is the kernel log's report; in a group the first kill has
    it. ``tasks`` are the processes in the report's table, else those in ``/proc`` after the mark.
    ``report_uid`` is the ``uid`` of the kill of the same container whose report and tasks stand for
    this one's too. ``report_dropped``: the store dropped both at its size limit. ``killer`` is the
    userspace OOM daemon that had the kernel choose, by its write to sysrq, or by its message in an
    old log. ``mappings`` are the victim's at the mark, where the kernel side can list them.
    """

    kind: ClassVar[str] = "kill"

    victim: Task
    memory: Memory | None
    memcg: Memcg | None
    memcg_usage: MemcgUsage | None = None
    incident: str | None = None
    skipped: bool = False
    original: str | None = None
    tasks: TaskList | None = None
    report_uid: str | None = None
    killer: UserspaceOomDaemon | None = None
    report_dropped: bool = False
    mappings: VictimMappings | None = None

    @property
    def identity_key(self) -> str:
        """The victim's pid; its name where the pid is unknown."""
        return str(self.victim.tgid if self.victim.tgid is not None else self.victim.comm)

    @property
    def awaited_start_ns(self) -> int | None:
        """The start of the process whose exit ends the span."""
        return self.victim.start_boottime_ns

    @property
    def already_exiting(self) -> bool:
        """True if the victim was exiting and only got access to memory reserves."""
        return is_exiting_victim(self.stack)

    @property
    def counted(self) -> bool:
        """True if the kernel counts it in ``/proc/vmstat`` (``__oom_kill_process()``)."""
        return not self.skipped and not self.already_exiting

    @property
    def trace_id(self) -> int:
        """The 128 bits of the trace of this kill's incident; never zero."""
        return derive_trace_id(self.incident or self.uid)

    @property
    def end_uid(self) -> str:
        """The uid of the log event of the victim's end."""
        return derive_uuid(f"{self.uid}/end")

    @property
    def span_id(self) -> int:
        """The 64 bits of this kill's span; never zero."""
        return derive_span_id(self.uid)

    @property
    def parent_span_id(self) -> int | None:
        """The span of the incident's first kill; ``None`` for that one itself."""
        return None if self.incident is None else derive_span_id(self.incident)


class UserspaceKill(OomEvent, frozen=True, kw_only=True):
    """A kill by a userspace OOM daemon, as its own log message reports it.

    It killed one process, ``victim``, or all of a cgroup: then there is no victim, as the message
    names no process. ``memcg`` is the victim's cgroup or the killed one. By the message, ``usage``
    is what that used and ``resident`` what the victim had in memory, in bytes; ``memcg_usage`` was
    read after it. ``tasks`` are the processes of a cgroup just before the kill. ``completed``: the
    message follows the kill; others precede it. ``verified``: the death was observed when the
    message was read. ``original`` is the message, without the victim's command line. The sequence
    of ``capture`` is when systemd's journal received it, in microseconds of CLOCK_MONOTONIC.
    """

    kind: ClassVar[str] = "userspace_kill"

    killer: UserspaceOomDaemon
    victim: Task | None
    memcg: Memcg | None
    memcg_usage: MemcgUsage | None = None
    resident: int | None = None
    usage: int | None = None
    tasks: TaskList | None = None
    completed: bool
    verified: bool = False
    original: str

    @property
    def identity_key(self) -> str:
        """The daemon, and the pid or the cgroup that it killed."""
        target = self.victim.tgid if self.victim else self.memcg.path if self.memcg else ""
        return f"{self.killer.name}/{target}"

    @property
    def timestamp_key(self) -> str:
        """The time of the journal entry, whenever it is read."""
        return f"journal/{self.capture.sequence}"

    @property
    def counted(self) -> bool:
        """False: ``/proc/vmstat`` counts kills by the kernel alone."""
        return False

    @property
    def awaited_start_ns(self) -> int | None:
        """The start of a victim that was alive when the message was read: its exit verifies."""
        return None if self.verified or self.victim is None else self.victim.start_boottime_ns

    @property
    def trace_id(self) -> int:
        """The 128 bits of this kill's trace; never zero."""
        return derive_trace_id(self.uid)

    @property
    def span_id(self) -> int:
        """The 64 bits of this kill's span; never zero."""
        return derive_span_id(self.uid)


def hit_own_limit(kill: OomKill | UserspaceKill) -> bool:
    """Return whether the limit that was hit is that of the victim's own cgroup."""
    own, hit = kill.memcg, kill.decision.memcg if kill.decision else None
    return own is not None and hit is not None and own.path == hit.path


class NoVictim(OomEvent, frozen=True, kw_only=True):
    """The kernel ran out of memory and found no killable process (``out_of_memory()``).

    ``repeat_count`` is how often that happened again since the last such event. ``original`` is
    the kernel log's report. ``report_dropped`` is as in :class:`OomKill`.
    """

    kind: ClassVar[str] = "no_victim"

    repeat_count: int = 0
    original: str | None = None
    report_dropped: bool = False

    @property
    def identity_key(self) -> str:
        """A constant: there is one such event at a time."""
        return "no-victim"


class Panic(OomEvent, frozen=True, kw_only=True):
    """The kernel ran out of memory and panicked (``vm.panic_on_oom``, or no killable process).

    Read at a later boot from what was kept of the log. ``boot_id`` is the boot that panicked, empty
    where unknown. ``boottime_ns`` is a time of the log's own clock, which stops in suspend: of the
    panic's line, else of the report's first line; 0 for a log without times. ``time_source`` is the
    origin of ``time_unix_ns``: the ``log`` mapped to the wall clock, or the time when the
    ``record`` was stored, up to seconds later. ``message`` is the panic's; ``None`` where only the
    report was kept. ``tid`` and ``comm`` are of the allocating thread, ``trigger`` is its process,
    where the log has it. ``original`` is the text.
    """

    kind: ClassVar[str] = "panic"

    message: str | None
    tid: int | None
    comm: str | None
    time_source: str
    original: str

    @property
    def identity_key(self) -> str:
        """The message and the thread."""
        return f"panic/{self.message}/{self.tid}"

    @property
    def uid(self) -> str:
        """A UUID derived from the record alone: its boot id is not known at each start."""
        name = f"{self.boottime_ns or self.time_unix_ns}/{self.identity_key}"
        is_unverified = self.provenance is not None and self.provenance.is_unverified
        return derive_uuid(f"unverified/{name}" if is_unverified else name)


class VictimExit(Struct, frozen=True):
    """The end of a victim: its last thread is in ``do_exit()``.

    ``boottime_ns`` is its time on CLOCK_BOOTTIME in nanoseconds, ``exit_code`` as of wait(2): the
    signal in the low seven bits. ``start_boottime_ns`` is unknown where the kill's is. ``kill_uid``
    is the uid of a kill by a userspace OOM daemon; ``None`` for a victim of the kernel.
    """

    kind: ClassVar[str] = "exit"

    tgid: int
    start_boottime_ns: int | None
    boottime_ns: int
    exit_code: int | None
    kill_uid: str | None = None


class ReaperStep(Struct, frozen=True):
    """A step of the kernel's oom_reaper, which frees the memory of a victim that does not exit.

    ``stage`` is ``wake`` (the victim is queued), ``start``, ``finish`` (of one attempt, which may
    free a part only) or ``skip`` (nothing is left). ``resident`` is what the victim still has in
    memory, in bytes. ``start_boottime_ns`` is as in :class:`VictimExit`.
    """

    kind: ClassVar[str] = "reaper"

    tgid: int
    start_boottime_ns: int | None
    boottime_ns: int
    stage: str
    resident: int | None


class UndecodableRecord(Struct, frozen=True):
    """A record of the kernel side that this version can't decode, and the reason."""

    kind: ClassVar[str] = "undecodable"

    record: bytes
    reason: str


CapturedEvent = (
    OomKill | UserspaceKill | NoVictim | MissedKills | VictimExit | ReaperStep | UndecodableRecord
)
"""An event as a source hands it over."""

ReplayedEvent = OomKill | UserspaceKill | NoVictim | Panic
"""An event that an old log can have."""

StoredEvent = OomKill | UserspaceKill | NoVictim | NearLimit | Panic | MissedKills | DroppedEvents
"""An event with a row in the database and a log record of its own."""
