"""``linux.cgroupsPath`` of a container's OCI configuration, and the cgroup that it names.

OCI runtime specification, ``config-linux.md``, "Cgroups Path". Of the cgroupfs driver it is a
path, of the systemd driver ``slice:prefix:name`` (runc, ``docs/systemd.md``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from otel_oom.linux.containers.cgroup_id import RUNTIME_UNIT

_DEFAULT_SLICE: Final = "system.slice"
_MAX_UNIT_CHARS: Final = 255
"""Of a name of systemd (systemd.unit(5)): the path of a slice grows with the square of it."""


def names_cgroup(cgroups_path: str, cgroup: str, *, whole: bool) -> bool:
    """Return whether a runtime that has ``cgroups_path`` puts its container into ``cgroup``.

    ``whole``: the runtime has the root of the hierarchy. Otherwise it sees the end of a path, as
    in a cgroup namespace, or below the manager of a user.
    """
    for absolute in _absolute_paths(cgroups_path):
        parent = cgroup.removesuffix(absolute)
        if parent == cgroup:
            continue
        # A relative path begins in the cgroup of the runtime.
        relative = not cgroups_path.startswith("/")
        if not whole or not parent or (relative and re.fullmatch(RUNTIME_UNIT, parent)):
            return True
    return False


def _absolute_paths(cgroups_path: str) -> Iterator[str]:
    """Return the path with each driver: a runtime may use the other one than its client."""
    if cgroups_path.strip("/"):
        yield f"/{cgroups_path.lstrip('/')}"
    slice_, *rest = cgroups_path.split(":")
    is_unit = len(rest) == 2 and len(slice_) <= _MAX_UNIT_CHARS  # noqa: PLR2004  prefix and name
    if is_unit and "/" not in cgroups_path:
        prefix, name = rest
        unit = f"{prefix}-{name}" if prefix else name
        yield f"{_expand_slice(slice_ or _DEFAULT_SLICE)}/{unit}.scope"


def _expand_slice(slice_: str) -> str:
    """Return the path of ``a-b.slice``: ``/a.slice/a-b.slice`` (systemd.slice(5))."""
    words = slice_.removesuffix(".slice").split("-")
    names = accumulate(words, "{}-{}".format) if all(words) else ()
    return "".join(f"/{name}.slice" for name in names)
