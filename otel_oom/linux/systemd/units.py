"""The systemd units of a process, out of its cgroup's path alone.

systemd keeps its units as folders: slices within slices, then the unit, and within a user's
manager (``user@UID.service``) that user's slices and unit. Source: systemd,
``src/basic/cgroup-util.c``, ``cg_path_get_unit_full()``, ``cg_path_get_user_unit()``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from otel_oom.model.text import decode_bytes

_UNIT: Final = re.compile(r"[\w:.\\@-]{1,247}\.(?:service|scope|socket|mount|swap)", re.ASCII)
_SLICE: Final = re.compile(r"[\w:.\\@-]{1,249}\.slice", re.ASCII)
_MANAGER: Final = re.compile(r"user@\d+\.service")
"""A user's systemd: an ancestor of that user's units."""

_ESCAPED: Final = re.compile(r"(?:\\x[0-9a-f]{2})+")


@dataclass(frozen=True, slots=True)
class Units:
    r"""The units that a cgroup is in, as `systemctl` names them, with their ``\xNN``.

    ``slice`` is the innermost of the system's slices. ``user_unit`` is the unit within a user's
    manager, and then ``unit`` is that manager.
    """

    unit: str | None = None
    slice: str | None = None
    user_unit: str | None = None


def units_of(cgroup_path: str) -> Units:
    """The units of ``cgroup_path``; each is ``None`` where the path has none."""
    components = [_unescaped(component) for component in cgroup_path.split("/") if component]
    slices, behind = _behind_slices(components)
    unit = _unit(behind)
    user_unit = None
    if unit and _MANAGER.fullmatch(unit):
        user_unit = _unit(_behind_slices(behind[1:])[1])
    return Units(unit, slices[-1] if slices else None, user_unit)


def unit_owning(cgroup_path: str) -> str | None:
    """The unit or slice whose own cgroup this is, not merely one within it."""
    name = _unescaped(cgroup_path.rpartition("/")[2])
    units = units_of(cgroup_path)
    if name in {units.unit, units.user_unit} or _SLICE.fullmatch(name):
        return name
    return None


def plain_name(service: str) -> str:
    r"""A service's name for people: without ``.service``, and with its ``\xNN`` as characters."""
    return _ESCAPED.sub(_character, service.removesuffix(".service"))


def _character(escaped: re.Match[str]) -> str:
    raw = bytes.fromhex(escaped[0].replace("\\x", ""))
    text = decode_bytes(raw)
    return text if text.isprintable() else escaped[0]


def _behind_slices(components: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    for at, component in enumerate(components):
        if not _SLICE.fullmatch(component):
            return components[:at], components[at:]
    return components, ()


def _unit(components: Sequence[str]) -> str | None:
    return components[0] if components and _UNIT.fullmatch(components[0]) else None


def _unescaped(component: str) -> str:
    """Without the ``_`` that keeps a unit's folder from a name that the kernel has a file of."""
    return component.removeprefix("_")
