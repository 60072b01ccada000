"""Open the files that may be those of a stack's frames, before any of them is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from otel_oom.enrich.symbols.request import SymbolRequest
from otel_oom.linux.elf import ReadBudget
from otel_oom.linux.untrusted_file import open_root, open_untrusted, open_untrusted_dir

MAX_FILES: Final = 4096
"""Open at the same time. Of them a root may have half."""
_MAX_DIRECTORIES: Final = 64
_MAX_ENTRIES: Final = 16_384
_MAX_PATH_BYTES: Final = 256
"""Of a reply, whose frames may each have another file."""

_CACHE: Final = "etc/ld.so.cache"
_MAX_CACHE_BYTES: Final = 1 << 18
_PATH: Final = re.compile(rb"/[^\0]*/")
_DEFAULT_DIRECTORIES: Final = ("lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib")
_DEBUG: Final = "usr/lib/debug/.build-id"


class Candidate(NamedTuple):
    """An open file that may be an executable or library, and its path below the root.

    Of a long path it is the base name.
    """

    fd: int
    path: bytes


class Candidates:
    """The files for a request, each inode once."""

    def __init__(self, request: SymbolRequest, budget: ReadBudget) -> None:
        self.files: list[Candidate] = []
        self.debug_files: list[int] = []
        self._budget = budget
        self._visited: set[tuple[int, int]] = set()
        self._owner = request.owner
        for root in request.executable_roots:
            self._open_below(root, request.executables)
        for root in request.library_roots:
            self._open_libraries(root)
        with suppress(OSError), open_root(request.debug_root) as root_fd:
            for path in _debug_paths(request):
                with suppress(OSError):
                    self.debug_files.append(open_untrusted(root_fd, path))

    def _open_below(self, root: str, paths: tuple[str, ...]) -> None:
        with suppress(OSError), open_root(root) as root_fd:
            for path in paths:
                if path.startswith("/"):
                    self._open(root_fd, path)

    def _open_libraries(self, root: str) -> None:
        """Open the shared libraries in the loader's cache and in the default directories."""
        last = len(self.files) + MAX_FILES // 2
        with suppress(OSError), open_root(root) as root_fd:
            for directory in _library_directories(root_fd):
                with suppress(OSError):
                    for name in self._library_names(root_fd, directory):
                        if len(self.files) >= last:
                            return
                        self._open(root_fd, f"{directory}/{name}")

    def _library_names(self, root_fd: int, directory: str) -> Iterator[str]:
        fd = open_untrusted_dir(root_fd, directory)
        try:
            if not self._is_new(fd):
                return
            with os.scandir(fd) as entries:
                for _, entry in zip(range(_MAX_ENTRIES), entries, strict=False):
                    if self._budget.is_spent:
                        return
                    # A symbolic link leads to one of these files.
                    if ".so" in entry.name and not entry.is_symlink():
                        yield entry.name
        finally:
            os.close(fd)

    def _open(self, root_fd: int, path: str) -> None:
        if len(self.files) >= MAX_FILES:
            return
        with suppress(OSError):
            fd = open_untrusted(root_fd, path, owner=self._owner)
            if self._is_new(fd):
                self.files.append(Candidate(fd, _reported_path(path)))
            else:
                os.close(fd)

    def _is_new(self, fd: int) -> bool:
        status = os.fstat(fd)
        inode = (status.st_dev, status.st_ino)
        is_new = inode not in self._visited
        self._visited.add(inode)
        return is_new


def _reported_path(path: str) -> bytes:
    encoded = b"/" + os.fsencode(path).lstrip(b"/")
    return encoded if len(encoded) <= _MAX_PATH_BYTES else encoded.rpartition(b"/")[2]


def _library_directories(root_fd: int) -> list[str]:
    """Return the default directories and those of the paths in the cache (ld.so(8))."""
    directories = dict.fromkeys(_DEFAULT_DIRECTORIES)
    with suppress(OSError):
        fd = open_untrusted(root_fd, _CACHE)
        try:
            cache = os.pread(fd, _MAX_CACHE_BYTES, 0)
        finally:
            os.close(fd)
        for match in _PATH.finditer(cache):
            directories[os.fsdecode(match[0]).strip("/")] = None
            if len(directories) >= _MAX_DIRECTORIES:
                break
    return list(directories)


def _debug_paths(request: SymbolRequest) -> Iterator[str]:
    """Return the paths of the frames' debug files, by build ids of any length."""
    for build_id in {frame.build_id for frame in request.frames}:
        for length in range(len(build_id.rstrip(b"\0")), len(build_id) + 1):
            digits = build_id[:length].hex()
            yield f"{_DEBUG}/{digits[:2]}/{digits[2:]}.debug"
