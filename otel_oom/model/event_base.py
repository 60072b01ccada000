"""What an event is told by: when, of which decision of the kernel, and under which ids.

Values here are frozen. What a source could not know is ``None``, never zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from msgspec import Struct

from otel_oom.model.types import (
    Capture,
    LogProvenance,
    Memcg,
    OomControl,
    Task,
    UserFrame,
)

try:
    # What hashlib has under this name; through hashlib it comes with 4 MB of OpenSSL.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b


class Event(Struct, frozen=True, kw_only=True):
    """What is told by a log event of its own.

    ``boottime_ns`` is the kernel's time on CLOCK_BOOTTIME, ``time_unix_ns`` the same instant in
    Unix time, both in nanoseconds. ``kind`` names the type in the database and in metrics.
    """

    kind: ClassVar[str]

    boot_id: str
    boottime_ns: int
    time_unix_ns: int

    @property
    def identity_key(self) -> str:
        """What tells this event from every other of its boot and instant."""
        raise NotImplementedError

    @property
    def timestamp_key(self) -> str:
        """What it has of the kernel alone, and hence whenever and by whomever it is read."""
        return str(self.boottime_ns)

    @property
    def occurrence_key(self) -> str:
        """Its boot and its instant."""
        return f"{self.boot_id}/{self.timestamp_key}"

    @property
    def uid(self) -> str:
        """The event's name for life: derived, so that a record read twice keeps it.

        A UUID of version 8 (RFC 9562) out of boot id, kernel time and what it is about.
        """
        return derive_uuid(f"{self.occurrence_key}/{self.identity_key}")


class OomEvent(Event, frozen=True, kw_only=True):
    """The kernel found no memory and had to decide: what each event of it shares.

    ``trigger`` is the task whose request for memory could not be met, ``trigger_memcg`` its
    cgroup. ``stack`` is where in the kernel that was: names and offsets, from the decision
    outwards; ``user_stack`` is where in the trigger's program, from the inside outwards. Both are
    empty where they can't be told. ``found`` is set for what was not captured: it was found in a
    log of the past.
    """

    trigger: Task | None
    trigger_memcg: Memcg | None = None
    decision: OomControl | None = None
    capture: Capture
    stack: tuple[str, ...] = ()
    user_stack: tuple[UserFrame, ...] = ()
    provenance: LogProvenance | None = None

    @property
    def occurrence_key(self) -> str:
        """Its boot and its instant; what it was found by, for not every log tells its boot."""
        if self.provenance:
            return self.provenance.dedup_key(self.time_unix_ns)
        return f"{self.boot_id}/{self.timestamp_key}"

    @property
    def timestamp_key(self) -> str:
        """The kernel's time; of a line of its log the number, for its clock can't be read."""
        return (
            f"log/{self.capture.sequence}"
            if self.capture.identified_by_sequence
            else str(self.boottime_ns)
        )

    def to_unix_ns(self, boottime_ns: int) -> int:
        """Another instant of the kernel's clock in Unix time, on this event's own scale.

        The two clocks drift, so that instants of one story are compared on one reading of them.
        """
        return self.time_unix_ns + boottime_ns - self.boottime_ns


_KILLS: Final = frozenset({"oom_kill_process", "out_of_memory"})


def function_name(frame: str) -> str:
    """The function of a frame such as ``shmem_write_begin+0x4b``, less what a compiler added."""
    return frame.partition("+")[0].partition(" ")[0].partition(".")[0]


def is_exiting_victim(stack: Sequence[str]) -> bool:
    """Whether the mark that ``stack`` leads to was that of a victim which exits anyway.

    It is told by who calls ``mark_oom_victim()``: ``__oom_kill_process()`` when it kills, these
    when they don't (``task_will_free_mem()``). The kernel neither logs nor counts that as a kill.
    """
    mark, caller = ([function_name(frame) for frame in stack[:2]] + ["", ""])[:2]
    return mark == "mark_oom_victim" and caller in _KILLS


def derive_uuid(name: str) -> str:
    """A UUID of version 8 (RFC 9562) out of ``name``."""
    digest = bytearray(derive_digest(name, "uid", 16))
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def derive_digest(name: str, purpose: str, size: int) -> bytes:
    """``size`` bytes out of ``name``, others for each purpose."""
    return blake2b(name.encode(), digest_size=size, person=purpose.encode()).digest()


def derive_trace_id(uid: str) -> int:
    """The 128 bits of the trace of an incident, by its first event; never zero."""
    return int.from_bytes(derive_digest(uid, "trace", 16), "big") or 1


def derive_span_id(uid: str) -> int:
    """The 64 bits of the span of an event; never zero."""
    return int.from_bytes(derive_digest(uid, "span", 8), "big") or 1
