"""The events: a kill, a want of memory without a victim, a panic, what was missed, an end.

Values here are frozen and know nothing of where they came from or go to. What a source
could not know is ``None``, never zero.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from otel_oom.model.candidates import TaskList
from otel_oom.model.event_base import (
    Event,
    OomEvent,
    derive_span_id,
    derive_trace_id,
    derive_uuid,
    is_exiting_victim,
)
from otel_oom.model.types import Memcg, MemcgUsage, Memory, Task, UserspaceOomDaemon


class OomKill(OomEvent, frozen=True, kw_only=True):
    """One process marked as an OOM victim (``mark_oom_victim()`` of mm/oom_kill.c).

    The trigger is often, not always, the victim. ``incident`` is set for what was killed along
    with another (``memory.oom.group``): that one's ``uid``. ``skipped``: it was chosen, and had
    let go of its memory before it could be killed. ``limits`` are those of ``memcg`` at the mark.
    ``original`` is what the kernel's log has of it, and ``candidates`` are those of the table in
    that; of a group the first one has them.
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

    @property
    def identity_key(self) -> str:
        """The victim's pid, as text; its name where that is all there is."""
        return str(self.victim.tgid if self.victim.tgid is not None else self.victim.comm)

    @property
    def already_exiting(self) -> bool:
        """Whether it was dying anyway, and was only given the last of the memory to do so."""
        return is_exiting_victim(self.stack)

    @property
    def counted(self) -> bool:
        """Whether the kernel counts it in ``/proc/vmstat`` (``__oom_kill_process()``)."""
        return not self.skipped and not self.already_exiting

    @property
    def trace_id(self) -> int:
        """The 128 bits of the trace of this kill's incident; never zero."""
        return derive_trace_id(self.incident or self.uid)

    @property
    def span_id(self) -> int:
        """The 64 bits of this kill's span; never zero."""
        return derive_span_id(self.uid)

    @property
    def parent_span_id(self) -> int | None:
        """The span of the kill that this one belongs to; ``None`` for one that stands alone."""
        return None if self.incident is None else derive_span_id(self.incident)


class UserspaceKill(OomEvent, frozen=True, kw_only=True):
    """A kill by a program of user space, as it told it itself; the kernel had decided nothing.

    What was killed is a process, ``victim``, or all of a cgroup, and then there is no victim, for
    nobody told which processes those were. ``memcg`` is the victim's cgroup, or the one that was
    killed, with its ``usage`` in bytes where the killer told that; ``resident`` is what the victim
    had in memory, in bytes. ``done``: it was told when it was done, not as it was begun.
    ``original`` are the killer's own words. The sequence of ``capture`` is when systemd's journal
    took them, in microseconds of CLOCK_MONOTONIC.
    """

    kind: ClassVar[str] = "userspace_kill"

    killer: UserspaceOomDaemon
    victim: Task | None
    memcg: Memcg | None
    resident: int | None = None
    usage: int | None = None
    completed: bool
    original: str

    @property
    def identity_key(self) -> str:
        """Who killed whom."""
        whom = self.victim.tgid if self.victim else self.memcg.path if self.memcg else ""
        return f"{self.killer.name}/{whom}"

    @property
    def timestamp_key(self) -> str:
        """What the journal's entry says, whenever it is read."""
        return f"journal/{self.capture.sequence}"

    @property
    def counted(self) -> bool:
        """Whether the kernel counts it in ``/proc/vmstat``: it knows nothing of it."""
        return False

    @property
    def trace_id(self) -> int:
        """The 128 bits of this kill's trace; never zero."""
        return derive_trace_id(self.uid)

    @property
    def span_id(self) -> int:
        """The 64 bits of this kill's span; never zero."""
        return derive_span_id(self.uid)


class NoVictim(OomEvent, frozen=True, kw_only=True):
    """There was no memory, and no process that the kernel may kill (``out_of_memory()``).

    ``repeats`` is how often the same was found again, untold, since it was last told.
    ``original`` is what the kernel's log has of it.
    """

    kind: ClassVar[str] = "no_victim"

    repeat_count: int = 0
    original: str | None = None

    @property
    def identity_key(self) -> str:
        """There is one such event at an instant."""
        return "no-victim"


class MissedKills(Event, frozen=True, kw_only=True):
    """Kills of this boot that the kernel counted, and that nothing tells of.

    ``count`` are those, ``counted`` all that ``/proc/vmstat`` had when that was found, which is
    what the times are of. ``reason`` is ``before_first_start`` (of this agent on this boot),
    ``buffer_full`` (the kernel's ring buffer had no room) or ``unknown``. ``at_most``: the kernel
    can count the first of a group twice, which only its log tells, and that could not be read.
    """

    kind: ClassVar[str] = "missed"

    count: int
    kernel_count: int
    reason: str
    upper_bound: bool = False

    @property
    def identity_key(self) -> str:
        """There is one such event at an instant."""
        return "missed"


class Panic(OomEvent, frozen=True, kw_only=True):
    """The kernel found no memory and panicked: ``vm.panic_on_oom`` is set, or nobody was left.

    Told at a later boot, by what was kept of the log. ``boot_id`` is that of the boot which
    panicked, empty where nothing tells it. ``boottime_ns`` is a time of the log's own clock, which
    stands still in suspend: of the panic's line, or of the report's first where that one was not
    kept; 0 for a log without times. ``time_source`` is how ``time_unix_ns`` is known: by the
    ``log`` mapped to the wall clock, or by when the ``record`` was stored, up to seconds later.
    ``message`` is what the kernel said; ``None`` where its report was kept and its last words were
    not. ``tid`` and ``comm`` are the thread's that asked for memory, and ``trigger`` is its
    process, where the log tells that. ``original`` is the text.
    """

    kind: ClassVar[str] = "panic"

    message: str | None
    tid: int | None
    comm: str | None
    time_source: str
    original: str

    @property
    def identity_key(self) -> str:
        """What the record says by itself."""
        return f"panic/{self.message}/{self.tid}"

    @property
    def uid(self) -> str:
        """Out of the record alone: its boot's id may be known at one start and not at the next."""
        return derive_uuid(f"{self.boottime_ns or self.time_unix_ns}/{self.identity_key}")


class VictimExit(Struct, frozen=True):
    """The end of a victim: its last thread is in ``do_exit()``.

    ``boottime_ns`` is the time of it on CLOCK_BOOTTIME, in nanoseconds; ``exit_code`` is as
    wait(2) gives it: the signal in the low seven bits. Without ``started_ns`` it is the end of a
    victim whose start was not told either.
    """

    kind: ClassVar[str] = "exit"

    tgid: int
    start_boottime_ns: int | None
    boottime_ns: int
    exit_code: int | None


class ReaperStep(Struct, frozen=True):
    """A step of the kernel's oom_reaper, which takes a victim's memory that does not die.

    ``stage`` is ``wake`` (the victim is on the reaper's list), ``start``, ``finish`` (of one
    attempt, which may not have got all) or ``skip`` (nothing is left to take). ``resident`` is
    what the victim still held then, in bytes; ``None`` where it can't be told. ``started_ns`` is as
    that of :class:`VictimExit`.
    """

    kind: ClassVar[str] = "reaper"

    tgid: int
    start_boottime_ns: int | None
    boottime_ns: int
    stage: str
    resident: int | None


class UndecodableRecord(Struct, frozen=True):
    """A record of the kernel side that this version can't read, as it was, and why."""

    kind: ClassVar[str] = "undecodable"

    record: bytes
    reason: str


CapturedEvent = (
    OomKill | UserspaceKill | NoVictim | MissedKills | VictimExit | ReaperStep | UndecodableRecord
)
"""What a source tells."""

StoredEvent = OomKill | UserspaceKill | NoVictim | Panic | MissedKills
"""What is told by a log event of its own, and has a row in the journal."""


class LostEvents(Struct, frozen=True):
    """What a source could not take and has not told before.

    ``victims`` and ``exits`` found the kernel's buffer full (``exits`` counts whatever is not a
    kill); ``unreadable`` are records that this version can't read, handed over as they were, and
    damages of the kernel's buffer; ``lines`` of the kernel's log were overwritten before they
    could be read.
    """

    victims: int = 0
    exits: int = 0
    undecodable: int = 0
    log_lines: int = 0
