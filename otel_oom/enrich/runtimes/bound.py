"""The bound of a runtime on its own memory, and the reserve that its other memory needs."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from otel_oom.model.units import MIB

_STEP_BYTES: Final = 50 * MIB
_LARGE_BYTES: Final = 1000 * MIB
_LARGE_STEP_BYTES: Final = 512 * MIB
"""Half a GiB: the advice shows one decimal place of a size, which must not be below it."""


class Reserve(Struct, frozen=True):
    """The part of a limit that a runtime must leave for ``users``, the rest of its memory."""

    percent: int
    min_bytes: int
    users: str

    def size(self, limit_bytes: int) -> int:
        """Return the reserve of a limit in bytes."""
        return max(limit_bytes * self.percent // 100, self.min_bytes)

    def fitting_limit(self, bound_bytes: int) -> int:
        """Return a limit that leaves its reserve beside a bound, as a person would choose it."""
        size = max(bound_bytes * 100 // (100 - self.percent), bound_bytes + self.min_bytes)
        step = _STEP_BYTES if size <= _LARGE_BYTES else _LARGE_STEP_BYTES
        return -(-size // step) * step


class Memory(Struct, frozen=True):
    """The memory that bounds a runtime, in bytes.

    ``limit`` is the limit that was hit, ``own`` the lowest limit of the runtime's cgroup, which it
    takes for the size of its machine. ``host`` is zero if it is not known.
    """

    limit: int
    own: int
    host: int = 0


class HeapBound(Struct, frozen=True):
    """The most memory that a runtime takes by itself, in bytes; ``None`` without a bound.

    ``subject`` is that memory. ``setting`` decides, as a person writes it, or ``is_default`` is
    set and it describes the default. ``fitting`` is the setting that leaves the reserve, ``None``
    if the limit is too small for any. ``is_soft``: what is in use counts more than the bound.
    """

    subject: str
    setting: str
    max_bytes: int | None
    reserve: Reserve
    fitting: str | None
    is_default: bool = False
    is_soft: bool = False
