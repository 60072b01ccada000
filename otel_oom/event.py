"""The events: an OOM kill, a want of memory without a victim, a panic, what was missed, an end.

Values here are frozen and know nothing of where they came from or go to. What a source
could not know is ``None``, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from otel_oom.facts import (
    Capture,
    Decision,
    Memcg,
    Memory,
    Task,
    UserFrame,
    decision,
    known,
    task,
)

try:
    # What hashlib has under this name; through hashlib it comes with 4 MB of OpenSSL.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is told by a log event of its own.

    ``boottime_ns`` is the kernel's time on CLOCK_BOOTTIME, ``time_unix_ns`` the same instant in
    Unix time, both in nanoseconds.
    """

    boot_id: str
    boottime_ns: int
    time_unix_ns: int

    @property
    def name(self) -> str:
        """What tells this event from every other of its boot and instant."""
        raise NotImplementedError

    @property
    def instant(self) -> str:
        """What it has of the kernel alone, and hence whenever and by whomever it is read."""
        return str(self.boottime_ns)

    @property
    def uid(self) -> str:
        """The event's name for life: derived, so that a record read twice keeps it.

        A UUID of version 8 (RFC 9562) out of boot id, kernel time and what it is about.
        """
        return _uuid(f"{self.boot_id}/{self.instant}/{self.name}")

    def to_json(self) -> dict[str, Any]:
        """This event as a dictionary that its type's ``from_json()`` takes back."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident(Told):
    """The kernel found no memory and had to decide: what each event of it shares.

    ``trigger`` is the task whose request for memory could not be met, ``trigger_memcg`` its
    cgroup. ``stack`` is where in the kernel that was: names and offsets, from the decision
    outwards; ``user_stack`` is where in the trigger's program, from the inside outwards. Both are
    empty where they can't be told.
    """

    trigger: Task | None
    trigger_memcg: Memcg | None = None
    decision: Decision | None = None
    capture: Capture
    stack: tuple[str, ...] = ()
    user_stack: tuple[UserFrame, ...] = ()

    @property
    def instant(self) -> str:
        """The kernel's time; of a line of its log the number, for its clock can't be read."""
        return f"log/{self.capture.sequence}" if self.capture.in_log else str(self.boottime_ns)

    def unix_ns_of(self, boottime_ns: int) -> int:
        """Another instant of the kernel's clock in Unix time, on this event's own scale.

        The two clocks drift, so that instants of one story are compared on one reading of them.
        """
        return self.time_unix_ns + boottime_ns - self.boottime_ns


def _shared(value: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an :class:`Incident` out of its JSON form."""
    memcg, weighed = value.get("trigger_memcg"), value.get("decision")
    return {
        **value,
        "trigger": task(value["trigger"]) if value["trigger"] else None,
        "trigger_memcg": known(Memcg, memcg) if memcg else None,
        "decision": decision(weighed) if weighed else None,
        "capture": known(Capture, value["capture"]),
        "stack": tuple(value.get("stack", ())),
        "user_stack": tuple(known(UserFrame, frame) for frame in value.get("user_stack", ())),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class OomKill(Incident):
    """One process marked as an OOM victim (``mark_oom_victim()`` of mm/oom_kill.c).

    The trigger is often, not always, the victim. ``incident`` is set for what was killed along
    with another (``memory.oom.group``): that one's ``uid``. ``skipped``: it was chosen, and had
    let go of its memory before it could be killed.
    """

    victim: Task
    memory: Memory | None
    memcg: Memcg | None
    incident: str | None = None
    skipped: bool = False

    @property
    def name(self) -> str:
        """The victim's pid, as text."""
        return str(self.victim.tgid)

    @property
    def already_exiting(self) -> bool:
        """Whether it was dying anyway, and was only given the last of the memory to do so."""
        return marked_exiting(self.stack)

    @property
    def counted(self) -> bool:
        """Whether the kernel counts it in ``/proc/vmstat`` (``__oom_kill_process()``)."""
        return not self.skipped and not self.already_exiting

    @property
    def trace_id(self) -> int:
        """The 128 bits of the trace of this kill's incident; never zero."""
        return int.from_bytes(_digest(self.incident or self.uid, "trace", 16), "big") or 1

    @property
    def span_id(self) -> int:
        """The 64 bits of this kill's span; never zero."""
        return _span_id(self.uid)

    @property
    def parent_span_id(self) -> int | None:
        """The span of the kill that this one belongs to; ``None`` for one that stands alone."""
        return None if self.incident is None else _span_id(self.incident)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OomKill:
        """The kill out of :meth:`to_json`'s dictionary; what this version does not know is left.

        Raises:
            TypeError: the dictionary is of another shape.
            KeyError: a part is missing.
        """
        memory, memcg = value["memory"], value["memcg"]
        return known(
            cls,
            {
                **_shared(value),
                "victim": task(value["victim"]),
                "memory": known(Memory, memory) if memory else None,
                "memcg": known(Memcg, memcg) if memcg else None,
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoVictim(Incident):
    """There was no memory, and no process that the kernel may kill (``out_of_memory()``).

    ``repeats`` is how often the same was found again, untold, since it was last told.
    """

    repeats: int = 0

    @property
    def name(self) -> str:
        """There is one such event at an instant."""
        return "no-victim"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NoVictim:
        """The event out of :meth:`to_json`'s dictionary; raises as :meth:`OomKill.from_json`."""
        return known(cls, _shared(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed(Told):
    """Kills of this boot that the kernel counted, and that nothing tells of.

    ``count`` are those, ``counted`` all that ``/proc/vmstat`` had when that was found, which is
    what the times are of. ``reason`` is ``before_first_start`` (of this agent on this boot),
    ``buffer_full`` (the kernel's ring buffer had no room) or ``unseen``. ``at_most``: the kernel
    can count the first of a group twice, which only its log tells, and that could not be read.
    """

    count: int
    counted: int
    reason: str
    at_most: bool = False

    @property
    def name(self) -> str:
        """There is one such event at an instant."""
        return "missed"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Missed:
        """The event out of :meth:`to_json`'s dictionary; raises as :meth:`OomKill.from_json`."""
        return known(cls, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panic(Incident):
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

    message: str | None
    tid: int | None
    comm: str | None
    time_source: str
    original: str

    @property
    def name(self) -> str:
        """What the record says by itself."""
        return f"panic/{self.message}/{self.tid}"

    @property
    def uid(self) -> str:
        """Out of the record alone: its boot's id may be known at one start and not at the next."""
        return _uuid(f"{self.boottime_ns or self.time_unix_ns}/{self.name}")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Panic:
        """The event out of :meth:`to_json`'s dictionary; raises as :meth:`OomKill.from_json`."""
        return known(cls, _shared(value))


_KILLS: Final = frozenset({"oom_kill_process", "out_of_memory"})


def function(frame: str) -> str:
    """The function of a frame such as ``shmem_write_begin+0x4b``, less what a compiler added."""
    return frame.partition("+")[0].partition(" ")[0].partition(".")[0]


def marked_exiting(stack: Sequence[str]) -> bool:
    """Whether the mark that ``stack`` leads to was that of a victim which exits anyway.

    It is told by who calls ``mark_oom_victim()``: ``__oom_kill_process()`` when it kills, these
    when they don't (``task_will_free_mem()``). The kernel neither logs nor counts that as a kill.
    """
    mark, caller = ([function(frame) for frame in stack[:2]] + ["", ""])[:2]
    return mark == "mark_oom_victim" and caller in _KILLS


def _uuid(name: str) -> str:
    digest = bytearray(_digest(name, "uid", 16))
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _digest(name: str, purpose: str, size: int) -> bytes:
    return blake2b(name.encode(), digest_size=size, person=purpose.encode()).digest()


def _span_id(uid: str) -> int:
    return int.from_bytes(_digest(uid, "span", 8), "big") or 1


@dataclass(frozen=True, slots=True)
class VictimExit:
    """The end of a victim: its last thread is in ``do_exit()``.

    ``boottime_ns`` is the time of it on CLOCK_BOOTTIME, in nanoseconds; ``exit_code`` is as
    wait(2) gives it: the signal in the low seven bits. Without ``started_ns`` it is the end of a
    victim whose start was not told either.
    """

    tgid: int
    started_ns: int | None
    boottime_ns: int
    exit_code: int | None

    def to_json(self) -> dict[str, Any]:
        """This exit as a dictionary of its fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Reaping:
    """A step of the kernel's oom_reaper, which takes a victim's memory that does not die.

    ``stage`` is ``wake`` (the victim is on the reaper's list), ``start``, ``finish`` (of one
    attempt, which may not have got all) or ``skip`` (nothing is left to take). ``resident`` is
    what the victim still held then, in bytes; ``None`` where it can't be told. ``started_ns`` is as
    that of :class:`VictimExit`.
    """

    tgid: int
    started_ns: int | None
    boottime_ns: int
    stage: str
    resident: int | None

    def to_json(self) -> dict[str, Any]:
        """This step as a dictionary of its fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Unread:
    """A record of the kernel side that this version can't read, as it was, and why."""

    record: bytes
    reason: str

    def to_json(self) -> dict[str, Any]:
        """This record as a dictionary, its bytes in hexadecimal."""
        return {"record": self.record.hex(), "reason": self.reason}


Event = OomKill | NoVictim | Missed | VictimExit | Reaping | Unread
"""What a source tells."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a source could not take and has not told before.

    ``victims`` and ``exits`` found the kernel's buffer full (``exits`` counts whatever is not a
    kill); ``unreadable`` are records that this version can't read, handed over as they were, and
    damages of the kernel's buffer; ``lines`` of the kernel's log were overwritten before they
    could be read.
    """

    victims: int = 0
    exits: int = 0
    unreadable: int = 0
    lines: int = 0
