"""Access to loaded maps, by libbpf's object or by inherited descriptors."""

from __future__ import annotations

import ctypes
import mmap
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Self

from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError


class MappedValue:
    """A value of an array map in memory: a part of it is read without a system call.

    The kernel side may write it meanwhile.
    """

    def __init__(self, descriptor: int, size: int, index: int) -> None:
        self._size = size
        begin = index * ((size + 7) // 8 * 8)
        self._begin = begin % mmap.ALLOCATIONGRANULARITY
        self._memory = mmap.mmap(descriptor, self._begin + size, offset=begin - self._begin)

    def read(self, offset: int, size: int) -> bytes:
        """Return a part of the value."""
        return self._memory[self._begin + offset : self._begin + offset + size]

    def wipe(self) -> None:
        """Set the value to zeros."""
        self._memory[self._begin : self._begin + self._size] = bytes(self._size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()


class Maps(ABC):
    """Loaded maps, by name."""

    _library: Libbpf

    @abstractmethod
    def map_fd(self, name: str) -> int:
        """Return the file descriptor of a loaded map."""

    @abstractmethod
    def close(self) -> None:
        """Close them, and all that was loaded with them."""

    def value(self, map_: str, size: int, *, index: int = 0) -> bytes:
        """Read the ``size`` bytes of a value of an array map."""
        key, value = ctypes.c_uint32(index), ctypes.create_string_buffer(size)
        descriptor = self.map_fd(map_)
        self._library.call("bpf_map_lookup_elem", descriptor, ctypes.byref(key), value)
        return value.raw

    def set_value(self, map_: str, value: bytes) -> None:
        """Write the first value of an array map."""
        key, descriptor = ctypes.c_uint32(0), self.map_fd(map_)
        self._library.call("bpf_map_update_elem", descriptor, ctypes.byref(key), value, 0)

    def map_value(self, map_: str, size: int, *, index: int) -> MappedValue:
        """Map a value of an array map with ``BPF_F_MMAPABLE``.

        Raises:
            OSError: the map can't be mapped.
        """
        return MappedValue(self.map_fd(map_), size, index)

    def values(self, map_: str, size: int) -> list[bytes]:
        """Read ``size`` bytes at key 0 of a per-CPU array, for each possible CPU."""
        cpus = self._library.call("libbpf_num_possible_cpus")
        stride = (size + 7) // 8 * 8
        raw = self.value(map_, stride * cpus)
        return [raw[cpu * stride : cpu * stride + size] for cpu in range(cpus)]

    def entries(
        self, map_: str, key_size: int, value_size: int, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """Return at most ``limit`` keys and values of a hash map; sizes are in bytes."""
        descriptor, entries = self.map_fd(map_), []
        previous: ctypes.Array[ctypes.c_char] | None = None
        with suppress(LibbpfError):  # there is no next key, or the kernel removed it
            for _ in range(limit):
                key = ctypes.create_string_buffer(key_size)
                value = ctypes.create_string_buffer(value_size)
                self._library.call("bpf_map_get_next_key", descriptor, previous, key)
                self._library.call("bpf_map_lookup_elem", descriptor, key, value)
                entries.append((key.raw, value.raw))
                previous = key
        return entries

    def delete_entry(self, map_: str, key: bytes) -> bool:
        """Delete an entry of a hash map; return false if there is none."""
        try:
            self._library.call("bpf_map_delete_elem", self.map_fd(map_), key)
        except LibbpfError:
            return False
        return True


class InheritedMaps(Maps):
    """Maps of which only the file descriptors are known, which are ours.

    The links of the programs that write them are ours too: closing a link detaches its program.
    """

    def __init__(self, library: Libbpf, maps: Mapping[str, int], links: Sequence[int]) -> None:
        """Own the descriptors of ``maps``, by name, and of ``links``."""
        self._library = library
        self._maps = dict(maps)
        self._links = list(links)

    def map_fd(self, name: str) -> int:
        """Return the file descriptor of a map."""
        return self._maps[name]

    def close(self) -> None:
        """Detach the programs, then close the maps."""
        while self._links:
            os.close(self._links.pop())
        while self._maps:
            os.close(self._maps.popitem()[1])
