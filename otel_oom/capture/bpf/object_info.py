"""What the kernel says of its own BPF objects: maps, programs, links.

Each comes as a file descriptor; the information about it is what ``BPF_OBJ_GET_INFO_BY_FD`` of
bpf(2) gives (include/uapi/linux/bpf.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError
from otel_oom.capture.bpf.object import MapShape
from otel_oom.model.text import decode_bytes

MAP: Final = "bpf-map"
LINK: Final = "link"

_MOST_MAPS: Final = 64
"""MAX_USED_MAPS: no program has more."""


class _MapInfo(ctypes.Structure):
    """``struct bpf_map_info``, as far as it is read."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    )


class _ProgramInfo(ctypes.Structure):
    """``struct bpf_prog_info``, as far as it is read."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", ctypes.c_uint32),
        ("xlated_prog_len", ctypes.c_uint32),
        ("jited_prog_insns", ctypes.c_uint64),
        ("xlated_prog_insns", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("nr_map_ids", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
    )


class _LinkInfo(ctypes.Structure):
    """``struct bpf_link_info``, as far as it is read."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class BpfObjectInfo:
    """The questions, asked through one libbpf."""

    def __init__(self, library: Libbpf) -> None:
        """Ask through ``library``."""
        self._library = library

    def pin(self, descriptor: int, path: Path) -> None:
        """Give an object a name in bpffs, where it lives on without this process.

        Raises:
            LibbpfError: no bpffs, no right, a name that is taken, or no such kind of object.
        """
        self._library.call("bpf_obj_pin", descriptor, os.fsencode(path))

    def get(self, path: Path, kind: str) -> int:
        """A new descriptor of the object of ``kind`` that is pinned at ``path``.

        Raises:
            LibbpfError: there is none, or one of another kind.
        """
        try:
            descriptor = int(self._library.call("bpf_obj_get", os.fsencode(path)))
        except LibbpfError as error:
            raise LibbpfError(str(path), error.code) from error
        # The same call tells of all kinds, so that one's fields would be taken for another's.
        if not Path(f"/proc/self/fd/{descriptor}").readlink().name.endswith(kind):
            os.close(descriptor)
            raise LibbpfError(f"{path} is no {kind}", errno.EINVAL)
        return descriptor

    def map(self, descriptor: int) -> tuple[int, MapShape]:
        """The id of a map, and its shape."""
        info = _MapInfo()
        self._ask(descriptor, info)
        name = decode_bytes(info.name)
        shape = MapShape(name, info.type, info.key_size, info.value_size, info.max_entries)
        return int(info.id), shape

    def maps_of_link(self, descriptor: int) -> set[int]:
        """The ids of the maps that the program behind a link works with.

        Raises:
            LibbpfError: EPERM without CAP_SYS_ADMIN, which going from one to the other needs.
        """
        link = _LinkInfo()
        self._ask(descriptor, link)
        program = self._library.call("bpf_prog_get_fd_by_id", link.prog_id)
        try:
            ids = (ctypes.c_uint32 * _MOST_MAPS)()
            info = _ProgramInfo(nr_map_ids=_MOST_MAPS, map_ids=ctypes.addressof(ids))
            self._ask(program, info)
        finally:
            os.close(program)
        return set(ids[: min(info.nr_map_ids, _MOST_MAPS)])

    def _ask(self, descriptor: int, info: ctypes.Structure) -> None:
        size = ctypes.c_uint32(ctypes.sizeof(info))
        self._library.call(
            "bpf_obj_get_info_by_fd", descriptor, ctypes.byref(info), ctypes.byref(size)
        )
