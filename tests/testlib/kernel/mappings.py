"""A victim with mappings of each kind, and what it reads of them itself before it is killed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from otel_oom.model.mappings import VictimMapping

ANON_NAME: Final = 'cache "x" of=it'
MEMFD_NAME: Final = "mem\n\x1b[31m fd"
NAMED_BYTES: Final = 24 << 20
SHARED_BYTES: Final = 12 << 20
MEMFD_BYTES: Final = 10 << 20
RESERVED_BYTES: Final = 1 << 30
HEAP_BYTES: Final = 30 << 20

MAP_EACH_KIND: Final = f"""
import ctypes, mmap, os, sys, threading, time
libc = ctypes.CDLL(None)
private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
named = mmap.mmap(-1, {NAMED_BYTES}, flags=private)
address = ctypes.addressof(ctypes.c_char.from_buffer(named))
libc.prctl(
    0x53564d41, 0, ctypes.c_ulong(address), ctypes.c_ulong({NAMED_BYTES}), {ANON_NAME.encode()!r}
)
shared = mmap.mmap(-1, {SHARED_BYTES})
descriptor = os.memfd_create({MEMFD_NAME!r})
os.ftruncate(descriptor, {MEMFD_BYTES})
memory_file = mmap.mmap(descriptor, {MEMFD_BYTES})
reserved = mmap.mmap(-1, {RESERVED_BYTES}, flags=private | 0x4000, prot=0)
libc.sbrk(ctypes.c_long({HEAP_BYTES}))
for _ in range(3):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""
"""Code of a victim: named anonymous, shared, a memfd, reserved, heap, and stacks of threads."""

PRINT_MAPS: Final = "print(open('/proc/self/maps').read(), flush=True)\n"

_MAPS: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+) *(.*)")
_OWN_KINDS: Final = {"[heap]": "heap", "[stack]": "stack"}
_ON_TMPFS: Final = re.compile(r"/(memfd:.*|SYSV.*|dev/zero) \(deleted\)", re.DOTALL)


def read_maps(text: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Return size and number of mappings by kind and name, from the text of /proc/PID/maps."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for match in _MAPS.finditer(text):
        begin, end, rights, _, path = match.groups()
        path = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), path)
        if path == "[vsyscall]":  # of the kernel's own memory
            continue
        key = _classify(rights, path)
        size, count = found.get(key, (0, 0))
        found[key] = size + int(end, 16) - int(begin, 16), count + 1
    return found


def _classify(rights: str, path: str) -> tuple[str, str]:
    on_tmpfs = _ON_TMPFS.fullmatch(path)
    if rights.startswith("---"):
        return "reserved", ""
    if path in _OWN_KINDS:
        return _OWN_KINDS[path], ""
    if path.startswith("[anon:"):
        return "anonymous", path[len("[anon:") : -1]
    if path.startswith("["):
        return "special", ""
    if on_tmpfs:
        return "shmem", on_tmpfs[1]
    return ("file", path.rpartition("/")[2]) if path else ("anonymous", "")


GROWING: Final = {("anonymous", ""), ("heap", ""), ("reserved", "")}
"""What grows between the victim's own reading and its death: it allocates, in further arenas."""


def check_mappings(mappings: Iterable[VictimMapping], maps: str) -> None:
    """Check that each kind and name is as large as the victim's own maps say.

    Raises:
        AssertionError: one differs, or one is listed that the victim does not have.
    """
    expected = read_maps(maps)
    listed = {(each.kind, each.name): (each.size, each.count) for each in mappings}
    listed.pop(("other", ""), None)
    if all(kind != "file" for kind, _ in listed):  # the root file system is tmpfs
        kinds = {"file": "shmem"}
        expected = {(kinds.get(kind, kind), name): v for (kind, name), v in expected.items()}
    assert listed.keys() <= expected.keys()
    for key, (size, count) in listed.items():
        if key in GROWING:
            assert size >= expected[key][0]
            assert count >= expected[key][1]
        else:
            assert (size, count) == expected[key], key
    smallest = min(size for size, _ in listed.values())
    larger = {key for key, (size, _) in expected.items() if size > smallest}
    assert larger <= listed.keys()
