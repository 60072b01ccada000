"""The effect of the kernel's ``vm.*`` settings on OOM kills.

Sources: Documentation/admin-guide/sysctl/vm.rst; ``out_of_memory()`` and ``check_panic_on_oom()``
of mm/oom_kill.c; ``__vm_enough_memory()`` of mm/util.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct

from otel_oom.model.units import KIB, format_bytes

_LARGE_RESERVE: Final = 0.05
"""Part of the host's memory: the kernel's own default is below 1 % of a large host."""

_EFFECTS: Final = {
    "panic_on_oom": (
        "it kills a process",
        (
            "when the host is out of memory it panics, and everything on it is down; only for a "
            "limit of a cgroup, a cpuset or a memory policy it kills a process"
        ),
        (
            "it panics instead of killing, for a cgroup's limit too, and everything on the host is "
            "down"
        ),
    ),
    "oom_kill_allocating_task": (
        "it kills the one with the highest oom_score, of the host or of the cgroup",
        (
            "when the host is out of memory it kills the allocating task, however small; in a "
            "cgroup the one with the highest oom_score"
        ),
    ),
    "overcommit_memory": (
        "processes may allocate more memory than exists, within reason: using it may end in a kill",
        "processes may allocate any amount of memory: using it may end in a kill",
        (
            "processes may allocate no more than {amount}: beyond that malloc() fails, and kills "
            "are for the limits of cgroups"
        ),
    ),
}
"""The effect of each value of a setting; that of the last one applies to all above it."""


class SettingEffect(Struct, frozen=True):
    """A setting, its value and its effect; ``advice`` if it prevents kills."""

    name: str
    value: str
    sentence: str
    advice: str = ""


def describe_settings(
    settings: Mapping[str, float], host: Mapping[str, float]
) -> Iterator[SettingEffect]:
    """Return the effects of ``settings`` of ``/proc/sys/vm``; unknown ones are left out.

    ``host`` is its memory in bytes, as :mod:`otel_oom.snapshot.host_stats` names it.
    """
    values = {name: int(value) for name, value in settings.items()}
    for name, effects in _EFFECTS.items():
        value = values.get(name)
        if value is not None:
            sentence = effects[min(abs(value), len(effects) - 1)].format(amount=_commit_limit(host))
            panics = name == "panic_on_oom" and value
            advice = "To enable kills: sysctl vm.panic_on_oom=0" if panics else ""
            yield SettingEffect(f"vm.{name}", str(value), sentence, advice)
    yield from _describe_swap(values, host)
    yield from _describe_reserve(values, host)
    if values.get("oom_dump_tasks") == 0:
        yield SettingEffect("vm.oom_dump_tasks", "0", "the kernel log does not list the processes")


def _commit_limit(host: Mapping[str, float]) -> str:
    limit, committed = host.get("commit_limit"), host.get("committed")
    if limit is None or committed is None:
        return "the host has"
    return f"{format_bytes(int(limit))} ({format_bytes(int(committed))} of it are committed)"


def _describe_swap(values: Mapping[str, int], host: Mapping[str, float]) -> Iterator[SettingEffect]:
    total = host.get("swap_total")
    if total is None:
        return
    if not total:
        sentence = "memory of processes can't be swapped out: kills come without delay"
        yield SettingEffect("swap", "none", sentence)
        return
    used = int(total - host.get("swap_free", total))
    last_resort = (
        "; with vm.swappiness=0 it is used as a last resort"
        if values.get("swappiness") == 0
        else ""
    )
    yield SettingEffect(
        "swap",
        f"{format_bytes(used)} of {format_bytes(int(total))} used",
        f"swapped memory counts in the choice of a victim like resident memory{last_resort}",
    )


def _describe_reserve(
    values: Mapping[str, int], host: Mapping[str, float]
) -> Iterator[SettingEffect]:
    value, total = values.get("min_free_kbytes"), host.get("total")
    if value is None or not total or value * KIB < total * _LARGE_RESERVE:
        return
    reserve = f"{format_bytes(value * KIB)} of the host's {format_bytes(int(total))}"
    sentence = f"{reserve} are kept free, and kills come that much earlier"
    yield SettingEffect("vm.min_free_kbytes", str(value), sentence)
