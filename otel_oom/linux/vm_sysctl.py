"""What the kernel's ``vm.*`` settings mean for who is killed, and whether anybody is; pure.

Sources: Documentation/admin-guide/sysctl/vm.rst; ``out_of_memory()`` and ``check_panic_on_oom()``
of mm/oom_kill.c; ``__vm_enough_memory()`` of mm/util.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from otel_oom.model.units import KIB, format_bytes

_MUCH_RESERVED: Final = 0.05
"""Of the host's memory: the kernel's own choice is below 1 % of a large host."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A setting, its value, and what that means; ``advice`` where it stands in the way of kills."""

    name: str
    value: str
    sentence: str
    advice: str = ""


def meanings(settings: Mapping[str, float], host: Mapping[str, float]) -> Iterator[Meaning]:
    """The settings that bear on who is killed; of what is not known nothing is said.

    Args:
        settings: files of ``/proc/sys/vm`` by their names.
        host: the host's memory in bytes, as :mod:`otel_oom.snapshot.host_stats` names it.
    """
    known = {name: int(value) for name, value in settings.items()}
    yield from _panic(known)
    yield from _whom(known)
    yield from _overcommit(known, host)
    yield from _swap(known, host)
    yield from _reserve(known, host)
    if known.get("oom_dump_tasks") == 0:
        yield Meaning(
            "vm.oom_dump_tasks", "0", "the kernel's log does not list who used the memory"
        )


_PANIC: Final = {
    1: (
        "when the host has no memory left it panics, and everything on it is down; only for a "
        "limit of a cgroup, a cpuset or a memory policy it kills a process"
    ),
    2: "it panics instead of killing, for a cgroup's limit too, and everything on the host is down",
}


def _panic(known: Mapping[str, int]) -> Iterator[Meaning]:
    value = known.get("panic_on_oom")
    if value is None:
        return
    advice = "To let it kill: sysctl vm.panic_on_oom=0" if value in _PANIC else ""
    yield Meaning("vm.panic_on_oom", str(value), _PANIC.get(value, "it kills a process"), advice)


def _whom(known: Mapping[str, int]) -> Iterator[Meaning]:
    value = known.get("oom_kill_allocating_task")
    if value is None:
        return
    whom = (
        "when the host has no memory left it kills whichever asked for some, however small; in a "
        "cgroup the one with the highest oom_score"
        if value
        else "it kills the one with the highest oom_score, of the host or of the cgroup"
    )
    yield Meaning("vm.oom_kill_allocating_task", str(value), whom)


_OVERCOMMIT: Final = {
    0: "processes are promised more than there is, within reason: who uses it may be killed",
    1: "processes are promised all that they ask for: who uses it may be killed",
}


def _overcommit(known: Mapping[str, int], host: Mapping[str, float]) -> Iterator[Meaning]:
    value = known.get("overcommit_memory")
    if value in _OVERCOMMIT:
        yield Meaning("vm.overcommit_memory", str(value), _OVERCOMMIT[value])
    elif value is not None:
        limit, committed = host.get("commit_limit"), host.get("committed")
        how_much = "what the host has"
        if limit is not None and committed is not None:
            how_much = (
                f"{format_bytes(int(limit))} ({format_bytes(int(committed))} of it are promised)"
            )
        yield Meaning(
            "vm.overcommit_memory",
            str(value),
            f"processes are promised no more than {how_much}: beyond that malloc() fails, and "
            "kills are for the limits of cgroups",
        )


def _swap(known: Mapping[str, int], host: Mapping[str, float]) -> Iterator[Meaning]:
    total = host.get("swap_total")
    if total is None:
        return
    if not total:
        yield Meaning(
            "swap", "none", "what processes hold can't be moved out: kills come without delay"
        )
        return
    used = int(total - host.get("swap_free", total))
    swappiness = known.get("swappiness")
    rarely = (
        "; by vm.swappiness=0 it is used when next to nothing else is left"
        if swappiness == 0
        else ""
    )
    yield Meaning(
        "swap",
        f"{format_bytes(used)} of {format_bytes(int(total))} used",
        f"what was moved there counts for who is killed, as if it were in memory{rarely}",
    )


def _reserve(known: Mapping[str, int], host: Mapping[str, float]) -> Iterator[Meaning]:
    value, total = known.get("min_free_kbytes"), host.get("total")
    if value is None or not total or value * KIB < total * _MUCH_RESERVED:
        return
    yield Meaning(
        "vm.min_free_kbytes",
        str(value),
        f"{format_bytes(value * KIB)} of the host's {format_bytes(int(total))} are kept free, and "
        "kills come that much earlier",
    )
