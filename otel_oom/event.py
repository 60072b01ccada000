"""The event: one OOM kill, as the kernel told it.

Values here are frozen and know nothing of where they came from or go to. What a source
could not know is ``None``, never zero.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

try:
    # What hashlib has under this name; through hashlib it comes with 4 MB of OpenSSL.
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class Task:
    r"""A process, as seen from one of its threads.

    Ids are those of the initial PID and user namespace, but for ``ns_tgid``, the process's pid as
    its own PID namespace has it. ``pid_ns`` and ``mnt_ns`` name its namespaces by their inodes,
    as ``/proc/PID/ns`` does. ``started_ns`` is the process's start
    on CLOCK_BOOTTIME, in nanoseconds: with ``tgid`` it names the process beyond the reuse of
    its pid. ``comm`` is the kernel's name for the thread, at most 15 bytes, chosen by the
    process itself and hence hostile: bytes that are not UTF-8 stand in it as ``\xNN``.
    ``executable`` is the path of its program as it sees it itself, from inside its container.
    """

    tgid: int
    tid: int | None = None
    ppid: int | None = None
    ns_tgid: int | None = None
    uid: int | None = None
    gid: int | None = None
    pid_ns: int | None = None
    mnt_ns: int | None = None
    score_adj: int | None = None
    comm: str | None = None
    started_ns: int | None = None
    executable: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process held when it was marked, in bytes (``mm_struct``'s counters)."""

    total_vm: int
    anon: int
    file: int
    shmem: int
    swap: int
    page_tables: int

    @property
    def resident(self) -> int:
        """Resident set size in bytes: anonymous, file and shared memory."""
        return self.anon + self.file + self.shmem


@dataclass(frozen=True, slots=True)
class Memcg:
    """A memory cgroup: its path in the memory controller's hierarchy and its folder's inode.

    ``path`` begins with ``/``; when ``path_cut``, the components nearest the root are missing
    and it begins with ``…/``.
    """

    id: int
    path: str
    path_cut: bool = False


@dataclass(frozen=True, slots=True)
class Capture:
    """Which source saw the event, by which hook, as which record of which CPU."""

    source: str
    hook: str
    cpu: int
    sequence: int


@dataclass(frozen=True, slots=True)
class OomKill:
    """One process marked as an OOM victim (``mark_oom_victim()`` of mm/oom_kill.c).

    ``boottime_ns`` is the kernel's time of the mark on CLOCK_BOOTTIME, ``time_unix_ns`` the
    same instant in Unix time, both in nanoseconds. ``trigger`` is the task whose request for
    memory could not be met; it is often, not always, the victim. ``stack`` is where in the kernel
    that was: names and offsets, from the decision outwards; empty where they can't be told.
    ``incident`` is set for what was killed along with another (``memory.oom.group``): that
    one's ``uid``.
    """

    boot_id: str
    boottime_ns: int
    time_unix_ns: int
    victim: Task
    trigger: Task
    memory: Memory | None
    memcg: Memcg | None
    capture: Capture
    stack: tuple[str, ...] = ()
    incident: str | None = None

    @property
    def uid(self) -> str:
        """The event's name for life: derived, so that a record read twice keeps it.

        A UUID of version 8 (RFC 9562) out of boot id, kernel time and pid.
        """
        name = f"{self.boot_id}/{self.boottime_ns}/{self.victim.tgid}"
        digest = bytearray(_digest(name, "uid", 16))
        digest[6] = digest[6] & 0x0F | 0x80
        digest[8] = digest[8] & 0x3F | 0x80
        text = digest.hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

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

    def unix_ns_of(self, boottime_ns: int) -> int:
        """Another instant of the kernel's clock in Unix time, on this kill's own scale.

        The two clocks drift, so that instants of one story are compared on one reading of them.
        """
        return self.time_unix_ns + boottime_ns - self.boottime_ns

    def to_json(self) -> dict[str, Any]:
        """This kill as a dictionary that :meth:`from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> OomKill:
        """The kill out of :meth:`to_json`'s dictionary.

        Raises:
            TypeError: the dictionary is of another shape.
            KeyError: a part is missing.
        """
        return cls(
            **{
                **value,
                "victim": Task(**value["victim"]),
                "trigger": Task(**value["trigger"]),
                "memory": Memory(**value["memory"]) if value["memory"] else None,
                "memcg": Memcg(**value["memcg"]) if value["memcg"] else None,
                "capture": Capture(**value["capture"]),
                "stack": tuple(value.get("stack", ())),
            }
        )


def _digest(name: str, purpose: str, size: int) -> bytes:
    return blake2b(name.encode(), digest_size=size, person=purpose.encode()).digest()


def _span_id(uid: str) -> int:
    return int.from_bytes(_digest(uid, "span", 8), "big") or 1


@dataclass(frozen=True, slots=True)
class VictimExit:
    """The end of a victim: its last thread is in ``do_exit()``.

    ``boottime_ns`` is the kernel's time of it on CLOCK_BOOTTIME, in nanoseconds; ``exit_code``
    is as wait(2) gives it: the signal in the low seven bits.
    """

    tgid: int
    started_ns: int
    boottime_ns: int
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """This exit as a dictionary of its fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Loss:
    """What a source could not take since its kernel side was loaded.

    ``victims`` and ``exits`` found the kernel's buffer full; ``unreadable`` are records of a
    layout that this version does not know.
    """

    victims: int = 0
    exits: int = 0
    unreadable: int = 0
