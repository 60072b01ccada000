"""What must be read before the victim is gone: its ``/proc`` files and its cgroup's numbers.

Everything here runs between the kernel's record and the journal's row. So each read is one
bounded read of a kernel file, no name is looked up, and what can't be read is ``None``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from otel_oom import proc as proc_file
from otel_oom.environ import EnvironReader
from otel_oom.event import OomKill
from otel_oom.facts import Limits, Memcg, Task, known

_READ_BYTES: Final = 8192
_NS_PER_S: Final = 1_000_000_000

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""How mountinfo writes a space, a tab, a newline and a backslash."""

_DELETED: Final = " (deleted)"


@dataclass(frozen=True, slots=True)
class Witness:
    """What user space saw of the victim.

    ``seen`` is whether the victim's ``/proc`` folder was still there and still its own.
    ``cgroup`` is the text of ``/proc/PID/cgroup``, ``None`` once the victim has left its cgroups.
    ``environ`` are the variables of its environment by which it names itself to OpenTelemetry.
    """

    seen: bool
    cgroup: str | None = None
    executable: str | None = None
    limits: Limits | None = None
    environ: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """This witness as a dictionary that :meth:`from_json` takes back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Witness:
        """The witness out of :meth:`to_json`'s dictionary.

        Raises:
            TypeError: the dictionary is of another shape.
        """
        limits = value.get("limits")
        return known(cls, {**value, "limits": known(Limits, limits) if limits else None})


@dataclass(frozen=True, slots=True)
class MemcgFiles:
    """Where the memory controller's hierarchy is mounted, and in which version's file names."""

    mount: Path
    root: str
    v1: bool

    @classmethod
    def find(cls, mountinfo: Path = Path("/proc/self/mountinfo")) -> MemcgFiles | None:
        """The memory hierarchy among this process's mounts (proc_pid_mountinfo(5)), if any.

        A v1 mount with the memory controller wins: then v2, if mounted, has no memory files.
        """
        v2 = None
        for line in mountinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            fields, rest = before.split(" "), after.split(" ")
            mount = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))
            if rest[0] == "cgroup" and "memory" in rest[-1].split(","):
                return cls(mount, fields[3], v1=True)
            if rest[0] == "cgroup2" and v2 is None:
                v2 = cls(mount, fields[3], v1=False)
        return v2

    def folder(self, memcg: Memcg) -> Path | None:
        """The folder of ``memcg``; ``None`` when it is not below this mount."""
        root = self.root.rstrip("/")
        if memcg.path_cut or not f"{memcg.path}/".startswith(f"{root}/"):
            return None
        return self.mount / memcg.path[len(root) :].lstrip("/")

    def limits(self, memcg: Memcg) -> Limits | None:
        """The bounds and usage of ``memcg`` now; ``None`` when its folder can't be found."""
        folder = self.folder(memcg)
        try:
            # In a cgroup namespace, or where one of that name was made anew, it is another.
            if folder is None or memcg.id not in {None, folder.stat().st_ino}:
                return None
        except OSError:
            return None
        names = (
            (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "memory.memsw.limit_in_bytes",
                "memory.memsw.usage_in_bytes",
            )
            if self.v1
            else ("memory.max", "memory.current", "memory.swap.max", "memory.swap.current")
        )
        return Limits(*(_number(folder / name) for name in names))


def look(
    kill: OomKill,
    files: MemcgFiles | None,
    proc: Path = Path("/proc"),
    environ: EnvironReader | None = None,
) -> Witness:
    """Read at once what vanishes with the victim of ``kill``."""
    # The first to vanish, with the victim's memory.
    own = environ.read(kill.victim.tgid) if environ and not kill.capture.late else {}
    limits = files.limits(kill.memcg) if files and kill.memcg else None
    if limits and kill.capture.late:
        # What was used then nobody knows any more; a limit mostly stands.
        limits = replace(limits, usage=None, swap_usage=None)
    folder = proc / str(kill.victim.tgid)
    stat = _read(folder / "stat")
    if stat is None or not _is_of(stat, kill.victim):
        return Witness(seen=False, limits=limits)
    return Witness(
        seen=True,
        cgroup=_still_in(kill.memcg, _read(folder / "cgroup")),
        executable=kill.victim.executable or _link(folder / "exe"),
        limits=limits,
        environ=own,
    )


_STATE_DEAD: Final = frozenset("ZXx")


def still_alive(kill: OomKill, proc: Path = Path("/proc")) -> str | None:
    """The state of a victim that has not died (proc_pid_stat(5), field 3); ``None`` if it has.

    A zombie is dead: it has let go of its memory.
    """
    stat = _read(proc / str(kill.victim.tgid) / "stat")
    if stat is None or kill.victim.started_ns is None or not _is_of(stat, kill.victim):
        return None
    state = stat.rpartition(")")[2].split()[0]
    return None if state in _STATE_DEAD else state


def _is_of(stat: str, victim: Task) -> bool:
    """Whether a ``/proc/PID/stat`` is of the victim itself, not of a later user of its pid."""
    if victim.started_ns is None:
        return True
    return proc_file.start_ticks(stat) == victim.started_ns * os.sysconf("SC_CLK_TCK") // _NS_PER_S


def _still_in(memcg: Memcg | None, cgroups: str | None) -> str | None:
    """``/proc/PID/cgroup`` as it is, unless the victim has already left its cgroups.

    On v1 a task that is far into its exit shows the root of every hierarchy: that is not where
    it was killed.
    """
    if memcg is None or cgroups is None or memcg.path == "/":
        return cgroups
    # The last line may have been cut by the bound of the read.
    lines = [line.split(":", 2) for line in cgroups.splitlines() if line.count(":") > 1]
    of_memory = [path for _, controllers, path in lines if "memory" in controllers.split(",")]
    return None if of_memory == ["/"] else cgroups


def _read(path: Path) -> str | None:
    return proc_file.read(path, _READ_BYTES)


def _link(path: Path) -> str | None:
    try:
        target = os.fsencode(path.readlink()).decode("utf-8", errors="backslashreplace")
    except OSError:
        return None
    return target.removesuffix(_DELETED)


_V1_UNLIMITED: Final = 1 << 62
"""No limit on v1 is the largest multiple of the page size in a signed long."""


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    if not text.isdecimal():
        return None
    value = int(text)
    return value if value < _V1_UNLIMITED else None
