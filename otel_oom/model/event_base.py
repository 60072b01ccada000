"""Fields, keys and ids shared by all events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from msgspec import Struct

from otel_oom.model.types import Capture, LogProvenance, Memcg, OomControl, Task, UserFrame

try:
    # hashlib has the same function, and loads 4 MB of OpenSSL with it.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

_DECIDING: Final = frozenset({"oom_kill_process", "out_of_memory"})


class Event(Struct, frozen=True, kw_only=True):
    """An event with a log record of its own.

    ``kind`` names its type in the database and in metrics. ``boottime_ns`` is the kernel's time on
    CLOCK_BOOTTIME, ``time_unix_ns`` the same instant in Unix time, both in nanoseconds.
    """

    kind: ClassVar[str]

    boot_id: str
    boottime_ns: int
    time_unix_ns: int

    @property
    def identity_key(self) -> str:
        """The part of the uid that is unique among events of one boot and time."""
        raise NotImplementedError

    @property
    def timestamp_key(self) -> str:
        """The kernel's timestamp, independent of who reads the record and when."""
        return str(self.boottime_ns)

    @property
    def occurrence_key(self) -> str:
        """The boot and the kernel's timestamp."""
        return f"{self.boot_id}/{self.timestamp_key}"

    @property
    def uid(self) -> str:
        """A derived UUID: a record that is read twice keeps it.

        It derives from boot id, kernel time and identity.
        """
        return derive_uuid(f"{self.occurrence_key}/{self.identity_key}")


class OomEvent(Event, frozen=True, kw_only=True):
    """An event of one decision of the kernel's OOM killer.

    ``trigger`` is the task whose allocation failed, ``trigger_memcg`` its cgroup. ``stack`` is its
    kernel stack, names and offsets, from the decision outwards. ``user_stack`` is its stack in user
    space, innermost first. Both are empty where unknown. ``provenance`` is set for an event that
    was read from an old log, not captured.
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
        """The boot and the kernel's timestamp; of an old log its own key, as few have a boot id."""
        if self.provenance:
            return self.provenance.dedup_key(self.time_unix_ns)
        return f"{self.boot_id}/{self.timestamp_key}"

    @property
    def timestamp_key(self) -> str:
        """The kernel's time; for a line of its log the number, as its clock is not readable."""
        if self.capture.identified_by_sequence:
            return f"log/{self.capture.sequence}"
        return str(self.boottime_ns)

    def to_unix_ns(self, boottime_ns: int) -> int:
        """Convert another time of the kernel's clock to Unix time, on this event's own scale.

        The two clocks drift: times of one event are compared by one reading of both.
        """
        return self.time_unix_ns + boottime_ns - self.boottime_ns


def function_name(frame: str) -> str:
    """Return the function of a frame (``shmem_write_begin+0x4b``), without compiler suffixes."""
    return frame.partition("+")[0].partition(" ")[0].partition(".")[0]


def is_exiting_victim(stack: Sequence[str]) -> bool:
    """Return whether ``stack`` marked a victim that was exiting already.

    ``__oom_kill_process()`` calls ``mark_oom_victim()`` for a kill. Other callers mark a task that
    ``task_will_free_mem()``; the kernel neither logs nor counts that as a kill.
    """
    mark, caller = ([function_name(frame) for frame in stack[:2]] + ["", ""])[:2]
    return mark == "mark_oom_victim" and caller in _DECIDING


def derive_uuid(name: str) -> str:
    """Derive a UUID of version 8 (RFC 9562) from ``name``."""
    digest = bytearray(_derive_digest(name, "uid", 16))
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _derive_digest(name: str, purpose: str, size: int) -> bytes:
    return blake2b(name.encode(), digest_size=size, person=purpose.encode()).digest()


def derive_trace_id(uid: str) -> int:
    """Derive the 128 bits of a trace from the uid of its first event; never zero."""
    return int.from_bytes(_derive_digest(uid, "trace", 16), "big") or 1


def derive_span_id(uid: str) -> int:
    """Derive the 64 bits of an event's span; never zero."""
    return int.from_bytes(_derive_digest(uid, "span", 8), "big") or 1
