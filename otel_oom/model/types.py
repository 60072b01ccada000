"""What events are made of: tasks, memory, cgroups, and what the kernel weighed.

Values here are frozen. What a source could not know is ``None``, never zero.
"""

from __future__ import annotations

from msgspec import Struct

from otel_oom.model.units import NS_PER_S, NS_PER_US


class Task(Struct, frozen=True):
    r"""A process, as seen from one of its threads.

    Ids are those of the initial PID and user namespace, but for ``ns_tgid``, the process's pid as
    its own PID namespace has it. ``pid_ns`` and ``mnt_ns`` name its namespaces by their inodes,
    as ``/proc/PID/ns`` does. ``started_ns`` is the process's start
    on CLOCK_BOOTTIME, in nanoseconds: with ``tgid`` it names the process beyond the reuse of
    its pid. ``comm`` is the kernel's name for the thread, at most 15 bytes, chosen by the
    process itself and hence hostile: bytes that are not UTF-8 stand in it as ``\xNN``. Without
    ``tgid`` it is one that the log of an old kernel tells by that name alone.
    ``executable`` is the path of its program as it sees it itself, from inside its container.
    ``command`` are the words that it was started with, as it has them in its memory.
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


class Memory(Struct, frozen=True):
    """What a process held when it was marked, in bytes (``mm_struct``'s counters).

    Without ``shmem``, which kernels before 4.5 do not tell apart, that is in ``file``.
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
    """A memory cgroup: its path in the memory controller's hierarchy and its folder's inode.

    ``path`` begins with ``/``; when ``path_cut``, the components nearest the root are missing
    and it begins with ``…/``. The kernel's log tells no inode.
    """

    id: int | None
    path: str
    path_cut: bool = False


class MemcgUsage(Struct, frozen=True):
    """A memory cgroup's bounds and usage in bytes; a limit of ``None`` is none set or unknown.

    ``swap_limit`` is of swap alone on cgroup v2 (``memory.swap.max``), of memory and swap
    together on v1 (``memory.memsw.limit_in_bytes``).
    """

    limit: int | None
    usage: int | None
    swap_limit: int | None
    swap_usage: int | None


class OomControl(Struct, frozen=True):
    """What the kernel weighed when it chose: its ``struct oom_control`` (include/linux/oom.h).

    ``constraint`` is what bounded the choice: ``none`` (the host), ``cpuset``, ``memory_policy``
    or ``memcg``. ``order`` is the request's size as a power of two of pages, -1 for sysrq.
    ``gfp_mask`` is how it was asked for, as this kernel numbers it; ``gfp_flags`` the same by name,
    as the kernel's log writes it. ``points`` are the chosen one's badness, in pages. ``capacity``
    is what could be had at most, in bytes: the cgroup's limit or the host's memory, with swap;
    never what anyone used. ``message`` is how the kernel's log begins its "Killed process" line.
    ``memcg`` is the cgroup whose limit was hit, with its ``limits`` at that moment; ``None`` for
    the host. ``hook`` is what told all this.
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
    """A program that kills for want of memory before the kernel has to, and what it said of why.

    ``name`` is ``systemd-oomd``, ``earlyoom`` or ``oomd``. ``signal`` is what it sends, such as
    ``SIGTERM``. ``reason`` is ``memory_pressure``, ``memory_used``, ``swap_used`` or
    ``memory_available``, and ``limit`` the bound on that in percent, beyond which it kills;
    ``pressure`` is the memory pressure that it found, in percent of the last 10 s, and
    ``memcg`` the path of the cgroup that had it. ``rule`` is which of its rules it was.
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

    Both stay good after the process is gone.
    """

    build_id: str
    offset: int


class Capture(Struct, frozen=True):
    """Which source saw the event, by which hook, as which record of which CPU.

    The kernel's log is one sequence for all CPUs; ``cpu`` is ``None`` there. ``late`` is whether
    it was before the source was attached: the kernel recorded it while no agent ran. ``marked`` is
    whether what the log tells was found among the kernel side's marks, whose time and process it
    has then.
    """

    source: str
    hook: str
    cpu: int | None
    sequence: int
    recovered: bool = False
    matched_mark: bool = False

    @property
    def from_kernel_log(self) -> bool:
        """Whether it is a line of the kernel's log."""
        return self.cpu is None

    @property
    def identified_by_sequence(self) -> bool:
        """Whether the number of that line is all there is to name it by."""
        return self.from_kernel_log and not self.matched_mark


class LogProvenance(Struct, frozen=True):
    """In which log of the past an event was found, for it was not captured.

    ``line`` is the kernel's line of it, without the names in it, and ``since_boot_ns`` the time of
    that on the log's own clock: both are the same in whatever file the line is kept. ``host`` and
    ``host_id`` (machine-id(5)) are whose log it is, as far as it says that. ``time_source`` is how
    its time is known: see ``commands/replay/timestamps.py``. ``file`` is where it was found.
    """

    line: str
    since_boot_ns: int | None
    host: str | None
    host_id: str | None
    time_source: str
    file: str | None

    def dedup_key(self, time_unix_ns: int) -> str:
        """What the event is known by, wherever it is found.

        Uptime and numbers of one line are no other's. Without the uptime it is the time, in
        seconds, and the host: many that are alike may do the same at once.
        """
        if self.since_boot_ns is None:
            host = (self.host or "").partition(".")[0].lower()
            return f"unix/{time_unix_ns // NS_PER_S}/{host}/{self.line}"
        return f"boot/{self.since_boot_ns // NS_PER_US}/{self.line}"
