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
    slices, unit, rest = _split(cgroup_path)
    user_unit = _split(rest)[1] if unit and _MANAGER.fullmatch(unit) else None
    return Units(unit, slices[-1] if slices else None, user_unit)


def find_owning_unit(cgroup_path: str) -> str | None:
    """Return the unit or slice whose own cgroup this is; ``None`` for a cgroup within one."""
    slices, unit, rest = _split(cgroup_path)
    if rest and unit and _MANAGER.fullmatch(unit):
        slices, unit, rest = _split(rest)
    if rest:
        return None
    return unit or (slices[-1] if slices else None)


def display_name(service: str) -> str:
    r"""Return a service's name without ``.service``, and with its ``\xNN`` as characters."""
    return _ESCAPED.sub(_character, service.removesuffix(".service"))


def _character(escaped: re.Match[str]) -> str:
    text = decode_bytes(bytes.fromhex(escaped[0].replace("\\x", "")))
    return text if text.isprintable() else escaped[0]


def _split(path: str) -> tuple[Sequence[str], str | None, str]:
    """Return the slices at the beginning of a path, the unit in them, and the rest of the path."""
    components = [component for component in path.split("/") if component]
    names = [_unescape(component) for component in components]
    count = next((n for n, name in enumerate(names) if not _SLICE.fullmatch(name)), len(names))
    unit = names[count] if count < len(names) and _UNIT.fullmatch(names[count]) else None
    return names[:count], unit, "/".join(components[count + bool(unit) :])


def _unescape(component: str) -> str:
    """Remove the ``_`` that keeps a unit's cgroup from having the name of a kernel file."""
    return component.removeprefix("_")
