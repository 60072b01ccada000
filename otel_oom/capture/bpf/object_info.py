"""Pins and information of the kernel's BPF objects: maps, programs, links.

Each object is given by a file descriptor. Its information is that of ``BPF_OBJ_GET_INFO_BY_FD`` of
bpf(2) (include/uapi/linux/bpf.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError
from otel_oom.capture.bpf.object import MAP_FIELDS, MapShape
from otel_oom.model.text import decode_bytes

MAP: Final = "bpf-map"
LINK: Final = "link"

_MAX_MAPS: Final = 64
"""The kernel's MAX_USED_MAPS: no program has more."""


class _MapInfo(ctypes.Structure):
    """Leading fields of ``struct bpf_map_info``."""

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
    """Leading fields of ``struct bpf_prog_info``."""

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
    """Leading fields of ``struct bpf_link_info``."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


class BpfObjectInfo:
    """Operations on BPF objects by file descriptor or pin."""

    def __init__(self, library: Libbpf) -> None:
        """Call the kernel through ``library``."""
        self._library = library

    def pin(self, descriptor: int, path: Path) -> None:
        """Pin an object in bpffs, where it outlives this process.

        Raises:
            LibbpfError: no bpffs, no permission, the name exists, or the object can't be pinned.
        """
        self._library.call("bpf_obj_pin", descriptor, os.fsencode(path))

    def get(self, path: Path, kind: str) -> int:
        """Open the object of ``kind`` that is pinned at ``path``.

        Raises:
            LibbpfError: there is none, or one of another kind.
        """
        try:
            descriptor = int(self._library.call("bpf_obj_get", os.fsencode(path)))
        except LibbpfError as error:
            raise LibbpfError(str(path), error.code) from error
        # The same call opens all kinds: fields of one would be read as fields of another.
        if not Path(f"/proc/self/fd/{descriptor}").readlink().name.endswith(kind):
            os.close(descriptor)
            raise LibbpfError(f"{path} is not a {kind}", errno.EINVAL)
        return descriptor

    def map(self, descriptor: int) -> tuple[int, MapShape]:
        """Return the id and the definition of a map."""
        info = _MapInfo()
        self._fill(descriptor, info)
        numbers = (getattr(info, field) for field in MAP_FIELDS)
        return int(info.id), MapShape(decode_bytes(info.name), *numbers)

    def maps_of_link(self, descriptor: int) -> set[int]:
        """Return the ids of the maps that the program of a link uses.

        Raises:
            LibbpfError: EPERM without CAP_SYS_ADMIN, which opening a program by its id needs.
        """
        link = _LinkInfo()
        self._fill(descriptor, link)
        program = self._library.call("bpf_prog_get_fd_by_id", link.prog_id)
        try:
            ids = (ctypes.c_uint32 * _MAX_MAPS)()
            info = _ProgramInfo(nr_map_ids=_MAX_MAPS, map_ids=ctypes.addressof(ids))
            self._fill(program, info)
        finally:
            os.close(program)
        return set(ids[: min(info.nr_map_ids, _MAX_MAPS)])

    def _fill(self, descriptor: int, info: ctypes.Structure) -> None:
        size = ctypes.c_uint32(ctypes.sizeof(info))
        self._library.call(
            "bpf_obj_get_info_by_fd", descriptor, ctypes.byref(info), ctypes.byref(size)
        )
