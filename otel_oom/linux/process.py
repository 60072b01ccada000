"""The files of one process in /proc: the only place that knows their formats.

A process chooses its name, and its owner the names of its cgroups. So a line ends at a newline
and at nothing else: the kernel escapes or rejects newlines in names, but no other separator.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux import procfs
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import KIB, NS_PER_S

_MAX_BYTES: Final = 8192
_MAX_CMDLINE_BYTES: Final = 16384
_ESCAPE: Final = re.compile(r"\\([n\\])")
"""The two characters that ``/proc/PID/status`` escapes in a name (proc_task_name())."""
_DELETED: Final = " (deleted)"
_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_MASK: Final = re.compile(r"[0-9a-f]{1,16}")
_DEAD_STATES: Final = frozenset("ZXx")
_ENV_START: Final = 50
_LAYOUT_FIELDS: Final = (26, 27, 28, _ENV_START, 51)
"""startcode, endcode, startstack, env_start and env_end: no program changes them for its title."""
_PF_EXITING: Final = 0x4
_SIGKILL: Final = 1 << 8
"""The signal in a mask of signals."""


class ProcessStatus(Struct, frozen=True):
    """Fields of ``/proc/PID/status`` (proc_pid_status(5)).

    Sizes are in bytes: zero for a process without memory, such as a kernel thread. ``uid`` and
    ``gid`` are the real ones. ``namespaced_pid`` is the id in the innermost PID namespace.
    """

    comm: str
    tgid: int | None
    ppid: int | None
    namespaced_pid: int | None
    uid: int | None
    gid: int | None
    resident: int
    swap: int
    page_tables: int
    effective_capabilities: int

    @property
    def total_bytes(self) -> int:
        """The memory that ``oom_badness()`` counts (mm/oom_kill.c)."""
        return self.resident + self.swap + self.page_tables


def parse_status(text: str) -> ProcessStatus:
    """Parse a ``/proc/PID/status``, whole or cut off at its end."""
    fields = dict(line.split(":\t", 1) for line in text.split("\n") if ":\t" in line)
    return ProcessStatus(
        comm=_ESCAPE.sub(lambda match: "\n" if match[1] == "n" else "\\", fields.get("Name", "")),
        tgid=_id(fields, "Tgid"),
        ppid=_id(fields, "PPid"),
        namespaced_pid=_id(fields, "NStgid", -1),
        uid=_id(fields, "Uid"),
        gid=_id(fields, "Gid"),
        resident=_size(fields, "VmRSS"),
        swap=_size(fields, "VmSwap"),
        page_tables=_size(fields, "VmPTE"),
        effective_capabilities=_mask(fields, "CapEff"),
    )


class ProcessStat(Struct, frozen=True):
    """Fields of ``/proc/PID/stat`` (proc_pid_stat(5)).

    ``start_ticks`` counts clock ticks since boot. ``exit_code`` is as wait(2) returns it, and
    ``None`` while the process lives or where this process may not see it. ``dying``: it has ended,
    is in ``do_exit()``, or has a SIGKILL pending, as after any fatal signal (complete_signal()).
    Between the signal and ``do_exit()`` nothing shows it for some microseconds. ``layout`` has
    addresses that each execve(2) chooses anew: of the code, the stack and the environment. It is
    ``None`` once the memory is gone, and where this process may not see it.
    """

    comm: str
    state: str
    ppid: int
    start_ticks: int | None
    exit_code: int | None
    dying: bool = False
    layout: tuple[str, ...] | None = None

    @property
    def start_boottime_ns(self) -> int | None:
        """The start on CLOCK_BOOTTIME, in nanoseconds, rounded down to a clock tick."""
        if self.start_ticks is None:
            return None
        return self.start_ticks * NS_PER_S // os.sysconf("SC_CLK_TCK")

    def has_start(self, start_boottime_ns: int | None) -> bool:
        """Return whether the process is the one that started then; False if that is not known."""
        if start_boottime_ns is None:
            return False
        return self.start_ticks == start_boottime_ns * os.sysconf("SC_CLK_TCK") // NS_PER_S


def parse_stat(text: str) -> ProcessStat | None:
    """Parse a ``/proc/PID/stat``; ``None`` if it is malformed."""
    before, _, after = text.rpartition(")")
    # The first field here is field 3 of the manual page.
    fields = after.strip("\n ").split(" ")
    try:
        return ProcessStat(
            comm=before.partition("(")[2],
            state=fields[0],
            ppid=int(fields[1]),
            start_ticks=int(fields[19]) if len(fields) > 19 else None,  # noqa: PLR2004  field 22
            exit_code=(int(fields[49]) if len(fields) > 49 else 0) or None,  # noqa: PLR2004  field 52
            dying=_is_dying(fields),
            layout=_layout(fields),
        )
    except (ValueError, IndexError):
        return None


class CgroupEntry(Struct, frozen=True):
    """A line of ``/proc/PID/cgroup``: a hierarchy, its v1 controllers, and the path in it.

    The hierarchy of cgroup v2 is ``0`` and has no controllers.
    """

    hierarchy: str
    controllers: tuple[str, ...]
    path: str


def parse_cgroups(text: str) -> list[CgroupEntry]:
    """Parse a ``/proc/PID/cgroup`` (cgroups(7)), without a last line that is cut off."""
    lines = (line.split(":", 2) for line in text.split("\n") if line.count(":") > 1)
    return [
        CgroupEntry(hierarchy, tuple(controllers.split(",")) if controllers else (), path)
        for hierarchy, controllers, path in lines
    ]


def memory_cgroup_path(text: str) -> str | None:
    """Return the memory cgroup in a ``/proc/PID/cgroup``: that of v1 if v1 has the controller."""
    unified = None
    for entry in parse_cgroups(text):
        if "memory" in entry.controllers:
            return entry.path
        if entry.hierarchy == "0":
            unified = entry.path
    return unified


def is_below_memory_cgroup(text: str, path: str) -> bool:
    """Return whether a ``/proc/PID/cgroup`` shows this memory cgroup, or one below it."""
    shown = memory_cgroup_path(text)
    return shown is not None and f"{shown}/".startswith(f"{path.rstrip('/')}/")


def shows_memory_cgroup(text: str, path: str) -> bool:
    """Return whether a ``/proc/PID/cgroup`` shows the memory cgroup of this path.

    In a cgroup namespace, a path begins at the root of that, or with ``/..`` above it.
    """
    shown = (memory_cgroup_path(text) or "").rpartition("/..")[2]
    return bool(shown) and path.endswith(shown)


class ProcessDir:
    """A directory ``/proc/PID``; each method is one bounded read, empty-handed once it is gone.

    Of a process that may be about to exit, only ``cgroup``, ``comm``, ``exe``, ``ns`` and
    ``oom_score_adj`` are harmless. To read ``stat``, ``status``, ``statm``, ``environ``,
    ``cmdline`` or ``maps``, the kernel takes a reference to its memory (get_task_mm()). A process
    that exits meanwhile frees no memory. Its parent is notified, and allocates at the limit: so it
    is killed as well.
    """

    __slots__ = ("path",)

    def __init__(self, pid: int | str, proc: Path | str = "/proc") -> None:
        self.path = f"{proc}/{pid}"

    def read_text(self, name: str, max_bytes: int = _MAX_BYTES) -> str | None:
        """Return the start of a file; ``None`` if it is not readable."""
        return procfs.read_text(f"{self.path}/{name}", max_bytes)

    def read_number(self, name: str) -> int | None:
        """Return the number that a file such as ``oom_score_adj`` consists of."""
        text = (self.read_text(name) or "").strip()
        return int(text) if text.removeprefix("-").isdecimal() else None

    def read_comm(self) -> str:
        """Return the name in ``comm``; empty once the process is gone."""
        return (self.read_text("comm") or "").removesuffix("\n")

    def read_status(self) -> ProcessStatus | None:
        """Read ``status``."""
        text = self.read_text("status")
        return parse_status(text) if text else None

    def read_stat(self) -> ProcessStat | None:
        """Read ``stat``."""
        text = self.read_text("stat")
        return parse_stat(text) if text else None

    def read_command_line(self) -> list[str]:
        """Return the arguments in ``cmdline``, followed by an empty one."""
        return (self.read_text("cmdline", _MAX_CMDLINE_BYTES) or "").split("\0")

    def read_executable(self) -> str | None:
        """Return the path of the program, as the process itself sees it."""
        try:
            target = os.fsencode(Path(self.path, "exe").readlink())
        except OSError:
            return None
        return decode_bytes(target).removesuffix(_DELETED)

    def namespace_inode(self, kind: str) -> int | None:
        """Return the inode of a namespace, such as ``pid`` or ``mnt``."""
        try:
            return Path(self.path, "ns", kind).stat().st_ino
        except OSError:
            return None


def _is_dying(fields: list[str]) -> bool:
    if len(fields) <= 28:  # noqa: PLR2004  field 31
        return fields[0] in _DEAD_STATES
    flags, pending = int(fields[6]), int(fields[28])
    return fields[0] in _DEAD_STATES or bool(flags & _PF_EXITING or pending & _SIGKILL)


def _layout(fields: list[str]) -> tuple[str, ...] | None:
    if len(fields) <= _LAYOUT_FIELDS[-1] - 3 or fields[_ENV_START - 3] == "0":
        return None
    return tuple(fields[number - 3] for number in _LAYOUT_FIELDS)


def _id(fields: dict[str, str], name: str, index: int = 0) -> int | None:
    words = fields.get(name, "").split("\t")
    return int(words[index]) if words and _NUMBER.fullmatch(words[index]) else None


def _mask(fields: dict[str, str], name: str) -> int:
    mask = fields.get(name, "")
    return int(mask, 16) if _MASK.fullmatch(mask) else 0


def _size(fields: dict[str, str], name: str) -> int:
    number = fields.get(name, "").removesuffix(" kB").strip()
    return int(number) * KIB if _NUMBER.fullmatch(number) else 0
