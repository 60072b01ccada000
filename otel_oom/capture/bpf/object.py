"""A BPF object file: its programs, maps and links."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from msgspec import Struct

from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError
from otel_oom.capture.bpf.maps import Maps


class _RunOptions(ctypes.Structure):
    """``struct bpf_test_run_opts``."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    )


class MapShape(Struct, frozen=True):
    """Definition of a map; ``type`` and ``flags`` are the kernel's, sizes are in bytes."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


MAP_FIELDS: Final = ("type", "key_size", "value_size", "max_entries", "map_flags")


class BpfObject(Maps):
    """An open BPF object file; :meth:`close` frees its programs, maps and links."""

    def __init__(self, library: Libbpf, path: os.PathLike[str]) -> None:
        """Open the object file at ``path``.

        Raises:
            LibbpfError: it is not readable, or no BPF object.
        """
        self._library = library
        self._links: dict[str, int] = {}
        self._object = library.call("bpf_object__open_file", os.fsencode(path), None)

    def _map(self, name: str) -> int:
        return int(self._library.call("bpf_object__find_map_by_name", self._object, name.encode()))

    def _program(self, name: str) -> int:
        return int(
            self._library.call("bpf_object__find_program_by_name", self._object, name.encode())
        )

    def set_constants(self, data: bytes) -> None:
        """Set the content of ``.rodata``; only before :meth:`load`."""
        self._library.call("bpf_map__set_initial_value", self._map(".rodata"), data, len(data))

    def resize(self, map_: str, entries: int) -> None:
        """Set the size of a map; only before :meth:`load`."""
        self._library.call("bpf_map__set_max_entries", self._map(map_), entries)

    def shape(self, map_: str) -> MapShape:
        """Return the definition of a map, loaded or not."""
        handle = self._map(map_)
        return MapShape(
            map_, *(int(self._library.call(f"bpf_map__{field}", handle)) for field in MAP_FIELDS)
        )

    def reuse(self, map_: str, descriptor: int) -> None:
        """Use an existing map in place of ``map_``; only before :meth:`load`."""
        self._library.call("bpf_map__reuse_fd", self._map(map_), descriptor)

    def skip(self, program: str) -> None:
        """Exclude ``program`` from :meth:`load`."""
        self._library.call("bpf_program__set_autoload", self._program(program), False)  # noqa: FBT003  C's own signature

    def skip_map(self, map_: str) -> None:
        """Exclude a map from :meth:`load`; no loaded program may use it."""
        self._library.call("bpf_map__set_autocreate", self._map(map_), False)  # noqa: FBT003  likewise

    def load(self) -> None:
        """Load maps and programs into the kernel.

        Raises:
            LibbpfError: the kernel rejected them; with libbpf's messages.
        """
        self._library.call("bpf_object__load", self._object)

    def attach(self, program: str) -> None:
        """Attach ``program`` to the hook that its section names."""
        try:
            link = self._library.call("bpf_program__attach", self._program(program))
        except LibbpfError as error:
            raise LibbpfError(f"{program} can't be attached", error.code, str(error)) from error
        self._links[program] = link

    def links(self) -> dict[str, int]:
        """Return the file descriptor of each link, by program."""
        return {
            name: self._library.call("bpf_link__fd", link) for name, link in self._links.items()
        }

    def disconnect_link(self, program: str) -> None:
        """Close a pinned link; a plain destroy would disable a kprobe's event."""
        link = self._links.pop(program)
        descriptor = self._library.call("bpf_link__fd", link)
        self._library.call("bpf_link__disconnect", link)
        self._library.call("bpf_link__destroy", link)
        os.close(descriptor)

    def run(self, program: str, argument: ctypes.c_uint64) -> int:
        """Run a loaded raw tracepoint program once; return its return value.

        Raises:
            LibbpfError: the kernel can't run it.
        """
        descriptor = self._library.call("bpf_program__fd", self._program(program))
        size = ctypes.sizeof(argument)
        options = _RunOptions(sz=ctypes.sizeof(_RunOptions), ctx_size_in=size)
        options.ctx_in = ctypes.addressof(argument)
        self._library.call("bpf_prog_test_run_opts", descriptor, ctypes.byref(options))
        return ctypes.c_int32(options.retval).value

    def map_fd(self, name: str) -> int:
        """Return the file descriptor of a loaded map."""
        return int(self._library.call("bpf_map__fd", self._map(name)))

    def close(self) -> None:
        """Detach and free everything."""
        while self._links:
            self._library.call("bpf_link__destroy", self._links.popitem()[1])
        if self._object:
            self._library.call("bpf_object__close", self._object)
            self._object = None
