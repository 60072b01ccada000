"""The mappings of a victim's address space."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

OTHER: Final = "other"


class VictimMapping(Struct, frozen=True):
    """All mappings of one kind and name; ``size`` is of the address space, in bytes.

    ``kind`` is ``anonymous``, ``heap`` (of brk(2)), ``stack`` (of the first thread), ``shmem``,
    ``file``, ``hugetlb``, ``reserved`` (no access allowed), ``special`` (the kernel's own) or
    ``other``: all that are not listed. ``name`` is that of a file, without its folder, or the one
    that the program gave by ``prctl(PR_SET_VMA_ANON_NAME)``; else it is empty. Both are hostile.
    """

    kind: str
    size: int
    count: int
    name: str = ""


class VictimMappings(Struct, frozen=True):
    """The largest mappings of a victim at the mark, largest first, and the sum of the others last.

    ``count`` is the number of all mappings, ``skipped`` of those that are in no entry.
    """

    largest: tuple[VictimMapping, ...]
    count: int
    skipped: int = 0
