"""The parts of events: tasks, memory, cgroups, and the kernel's decision."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from otel_oom.model.start_settings import StartSettings
from otel_oom.model.units import NS_PER_S, NS_PER_US


class Task(Struct, frozen=True):
    r"""A process, identified through one of its threads.

    Ids are those of the initial PID and user namespace, except ``namespaced_pid``, the pid in the
    process's own PID namespace. ``pid_ns`` and ``mnt_ns`` are the inodes of its namespaces, as in
    ``/proc/PID/ns``. ``start_boottime_ns`` is its start on CLOCK_BOOTTIME in nanoseconds: with
    ``tgid`` it identifies the process even if the pid is reused. ``comm`` is the kernel's name of
    the thread, at most 15 bytes, hostile as the process chooses it; bytes that are not UTF-8 stand
    in it as ``\xNN``. Without ``tgid``, an old kernel's log has no more than that name.
    ``executable`` is the program's path as the process sees it, inside its container. ``command``
    are its arguments, as it has them in its memory. ``start`` is the allowed part of what it was
    started with, of a victim and until its snapshot has it.
    """

    tgid: int | None
    tid: int | None = None
    ppid: int | None = None
    namespaced_pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    pid_ns: int | None = None
    mnt_ns: int | None = None
    score_adj: int | None = None
    comm: str | None = None
    start_boottime_ns: int | None = None
    executable: str | None = None
    command: tuple[str, ...] | None = None
    start: StartSettings | None = None


class Memory(Struct, frozen=True):
    """The memory of a process at the mark, in bytes (the counters of its ``mm_struct``).

    Kernels before 4.5 have no ``shmem`` and count it in ``file``.
    """

    total_vm: int
    anon: int
    file: int
    shmem: int | None
    swap: int | None
    page_tables: int | None

    @property
    def resident(self) -> int:
        """Resident set size in bytes: anonymous, file and shared memory."""
        return self.anon + self.file + (self.shmem or 0)


class Memcg(Struct, frozen=True):
    """A memory cgroup: the inode of its directory and its path in the hierarchy.

    ``path`` begins with ``/``. If ``path_cut``, components next to the root are missing and it
    begins with ``…/``. The kernel's log has no inode.
    """

    id: int | None
    path: str
    path_cut: bool = False


class MemcgUsage(Struct, frozen=True):
    """Limits and usage of a memory cgroup in bytes; a limit of ``None`` is not set or unknown.

    ``swap_limit`` is of swap alone on cgroup v2 (``memory.swap.max``), of memory and swap together
    on v1 (``memory.memsw.limit_in_bytes``).
    """

    limit: int | None
    usage: int | None
    swap_limit: int | None
    swap_usage: int | None


SYSRQ_ORDER: Final = -1
"""The order that stands for a kill by sysrq."""


class OomControl(Struct, frozen=True):
    """The kernel's decision: its ``struct oom_control`` (include/linux/oom.h).

    ``source`` is the hook or log that it comes from. ``constraint`` is ``none`` (the host),
    ``cpuset``, ``memory_policy`` or ``memcg``. ``order`` is the allocation's size as a power of two
    of pages, -1 for sysrq. ``gfp_mask`` are its flags as this kernel numbers them, ``gfp_flags``
    their names as in the kernel's log. ``points`` is the badness of the chosen task, in pages.
    ``total_memory`` is ``totalpages`` in bytes: the cgroup's limit or the host's memory, with swap.
    ``message`` is the beginning of the "Killed process" line. ``memcg`` is the cgroup whose limit
    was hit, with its ``memcg_usage`` at that moment; ``None`` for the host.
    """

    source: str
    constraint: str | None = None
    order: int | None = None
    gfp_mask: int | None = None
    gfp_flags: str | None = None
    points: int | None = None
    total_memory: int | None = None
    message: str | None = None
    memcg: Memcg | None = None
    memcg_usage: MemcgUsage | None = None


class UserspaceOomDaemon(Struct, frozen=True):
    """A userspace OOM daemon, and the reason that it logged.

    ``name`` is ``systemd-oomd``, ``earlyoom`` or ``oomd``, ``signal`` the signal sent, such as
    ``SIGTERM``. ``reason`` is ``memory_pressure``, ``memory_used``, ``swap_used`` or
    ``memory_available``, ``limit`` its threshold in percent. ``pressure`` is the measured memory
    pressure in percent of the last 10 s, ``memcg`` the path of the cgroup that had it, ``rule``
    the daemon's rule.
    """

    name: str
    signal: str | None = None
    reason: str | None = None
    limit: float | None = None
    pressure: float | None = None
    memcg: str | None = None
    rule: str | None = None


class UserFrame(Struct, frozen=True):
    """A return address in user space: the build id of its file, in hexadecimal, and the offset.

    Both stay valid after the process has ended.
    """

    build_id: str
    offset: int


class Capture(Struct, frozen=True):
    """The source of an event, with the hook, the CPU and the number of the record.

    The kernel's log is one sequence for all CPUs: ``cpu`` is ``None``. ``recovered``: the kernel
    recorded it before the agent started. ``matched_mark``: it comes from the log and was matched to
    a mark of the kernel side, of which it has time and process.
    """

    source: str
    hook: str
    cpu: int | None
    sequence: int
    recovered: bool = False
    matched_mark: bool = False

    @property
    def from_kernel_log(self) -> bool:
        """True for a line of the kernel's log."""
        return self.cpu is None

    @property
    def identified_by_sequence(self) -> bool:
        """True if only the number of its log line identifies it."""
        return self.from_kernel_log and not self.matched_mark


# Values of oom.log.source.
JOURNAL: Final = "journal"
TEXT_FILE: Final = "text"
UNVERIFIED: Final = "unverified"


class LogProvenance(Struct, frozen=True):
    """The old log in which an event was found.

    ``line`` is the kernel's line without the names in it, ``since_boot_ns`` its time on the log's
    own clock: both are the same in every file that keeps the line. ``host`` and ``host_id``
    (machine-id(5)) are of the logging host, where known. ``time_source`` is the origin of the
    event's time: see ``commands/replay/timestamps.py``. ``file`` is the log's name. ``source`` is
    the proof that the line is the kernel's: by the journal, by a text file, or none.
    """

    line: str
    since_boot_ns: int | None
    host: str | None
    host_id: str | None
    time_source: str
    file: str | None
    source: str = TEXT_FILE

    @property
    def is_unverified(self) -> bool:
        """Return true if any program can have written the line."""
        return self.source == UNVERIFIED

    def dedup_key(self, time_unix_ns: int) -> str:
        """Return the key by which the event is identified in each file that has it.

        The uptime and the numbers of a line are unique. Without the uptime the key has the time in
        seconds and the host: similar hosts may do the same at once. The key of an unverified event
        is never that of another.
        """
        prefix = "unverified/" if self.is_unverified else ""
        if self.since_boot_ns is None:
            host = (self.host or "").partition(".")[0].lower()
            return f"{prefix}unix/{time_unix_ns // NS_PER_S}/{host}/{self.line}"
        return f"{prefix}boot/{self.since_boot_ns // NS_PER_US}/{self.line}"


class OomTask(Struct, frozen=True):
    """A process that the kernel could choose, and its memory in bytes.

    Logs of old kernels have neither ``swap`` nor ``page_tables``. ``comm`` and ``memcg``, the path
    of its cgroup, are hostile.
    """

    tgid: int
    comm: str
    resident: int
    swap: int | None
    page_tables: int | None
    uid: int | None = None
    score_adj: int | None = None
    memcg: str | None = None

    @property
    def total_bytes(self) -> int:
        """The memory that its death would free; the kernel ranks by it (``oom_badness()``)."""
        return self.resident + (self.swap or 0) + (self.page_tables or 0)


class TaskList(Struct, frozen=True):
    """The largest processes of a cgroup or of the host at one moment, largest first.

    ``memcg`` is the path of the cgroup, ``None`` for the host. ``boottime_ns`` is when they were
    read. ``count`` is the number of processes read, ``skipped`` of those that time did not allow:
    at least 1 if there was no time for all cgroups.
    """

    memcg: str | None
    boottime_ns: int
    count: int
    skipped: int
    largest: tuple[OomTask, ...]
