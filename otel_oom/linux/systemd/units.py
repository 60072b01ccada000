"""The systemd units of a process, by its cgroup's path alone.

systemd keeps its units as cgroups: slices within slices, then the unit, and within a user's
manager (``user@UID.service``) that user's slices and unit. Source: systemd,
``src/basic/cgroup-util.c``, ``cg_path_get_unit_full()``, ``cg_path_get_user_unit()``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from otel_oom.model.text import decode_bytes

_UNIT: Final = re.compile(r"[\w:.\\@-]{1,247}\.(?:service|scope|socket|mount|swap)", re.ASCII)
_SLICE: Final = re.compile(r"[\w:.\\@-]{1,249}\.slice", re.ASCII)
_MANAGER: Final = re.compile(r"user@\d+\.service")
"""A user's systemd: an ancestor of that user's units."""

_ESCAPED: Final = re.compile(r"(?:\\x[0-9a-f]{2})+")


class Units(Struct, frozen=True):
    r"""The units that a cgroup is in, as ``systemctl`` names them, with their ``\xNN``.

    ``slice`` is the innermost of the system's slices. ``user_unit`` is the unit within a user's
    manager; then ``unit`` is that manager.
    """

    unit: str | None = None
    slice: str | None = None
    user_unit: str | None = None


def find_units(cgroup_path: str) -> Units:
    """Return the units of ``cgroup_path``; each is ``None`` where the path has none."""
    components = [_unescape(component) for component in cgroup_path.split("/") if component]
    slices, rest = _split_slices(components)
    unit = _first_unit(rest)
    user_unit = None
    if unit and _MANAGER.fullmatch(unit):
        user_unit = _first_unit(_split_slices(rest[1:])[1])
    return Units(unit, slices[-1] if slices else None, user_unit)


def find_owning_unit(cgroup_path: str) -> str | None:
    """Return the unit or slice whose own cgroup this is; ``None`` for a cgroup within one."""
    name = _unescape(cgroup_path.rpartition("/")[2])
    units = find_units(cgroup_path)
    if name in {units.unit, units.user_unit} or _SLICE.fullmatch(name):
        return name
    return None


def display_name(service: str) -> str:
    r"""Return a service's name without ``.service``, and with its ``\xNN`` as characters."""
    return _ESCAPED.sub(_character, service.removesuffix(".service"))


def _character(escaped: re.Match[str]) -> str:
    text = decode_bytes(bytes.fromhex(escaped[0].replace("\\x", "")))
    return text if text.isprintable() else escaped[0]


def _split_slices(components: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    for index, component in enumerate(components):
        if not _SLICE.fullmatch(component):
            return components[:index], components[index:]
    return components, ()


def _first_unit(components: Sequence[str]) -> str | None:
    return components[0] if components and _UNIT.fullmatch(components[0]) else None


def _unescape(component: str) -> str:
    """Remove the ``_`` that keeps a unit's cgroup from having the name of a kernel file."""
    return component.removeprefix("_")
