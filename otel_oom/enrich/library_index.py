"""The files of user frames, found by build id: another version at the same path never matches."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from otel_oom.enrich.elf_file import open_regular, path_below, read_build_id

_CACHE: Final = "etc/ld.so.cache"
_MAX_CACHE_BYTES: Final = 1 << 18
_STRING: Final = re.compile(rb"[^\0]+")
_DEFAULT_DIRECTORIES: Final = ("lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib")

_MAX_DIRECTORIES: Final = 64
_MAX_FILES: Final = 2048
_MAX_ENTRIES: Final = 16_384
_REFRESH_S: Final = 60.0


class LibraryIndex:
    """The libraries of a host by build id; some 150 KB for 600 libraries."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._paths: dict[bytes, str] = {}
        self._indexed_s: float | None = None

    def find(
        self, build_ids: set[bytes], executables: Sequence[str], roots: Sequence[Path]
    ) -> dict[bytes, str]:
        """Return the paths of the files with these build ids, as far as they exist.

        The ``executables`` are tried first, then the libraries below ``roots``, then the host's.
        """
        paths: dict[bytes, str] = {}

        def search(candidates: Iterable[str]) -> None:
            for path in candidates:
                if not build_ids - paths.keys():
                    return
                build_id = read_build_id(path)
                if build_id is not None and build_id in build_ids:
                    paths.setdefault(build_id, path)

        for root in (*roots, self._root):
            search(path_below(root, path) for path in executables if path.startswith("/"))
        for root in roots:
            search(_libraries(root))
        search(self._indexed(build_ids - paths.keys()))
        if build_ids - paths.keys() and self._refresh():
            search(self._indexed(build_ids - paths.keys()))
        return paths

    def _indexed(self, build_ids: Iterable[bytes]) -> list[str]:
        return [self._paths[build_id] for build_id in build_ids if build_id in self._paths]

    def _refresh(self) -> bool:
        """Read the build ids of the host's libraries, once a minute at most."""
        now = time.monotonic()
        if self._indexed_s is not None and now - self._indexed_s < _REFRESH_S:
            return False
        self._indexed_s = now
        build_ids = ((read_build_id(path), path) for path in _libraries(self._root))
        self._paths = {build_id: path for build_id, path in build_ids if build_id is not None}
        return True


def _libraries(root: Path) -> Iterator[str]:
    """Yield the shared libraries in the loader's cache and in the default directories."""
    files = 0
    visited: set[tuple[int, int]] = set()
    for directory in _directories(root):
        try:
            status = Path(directory).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                for _, entry in zip(range(_MAX_ENTRIES), entries, strict=False):
                    # A symbolic link leads to one of these files.
                    if ".so" in entry.name and entry.is_file(follow_symlinks=False):
                        files += 1
                        if files > _MAX_FILES:
                            return
                        yield entry.path
        except OSError:
            continue


def _directories(root: Path) -> list[str]:
    """Return the default directories and those of the paths in the cache (ld.so(8))."""
    with open_regular(path_below(root, _CACHE)) as fd:
        cache = b"" if fd is None else _read_start(fd)
    paths = (match[0] for match in _STRING.finditer(cache))
    cached = {os.fsdecode(path.rpartition(b"/")[0]): None for path in paths if path[:1] == b"/"}
    return [path_below(root, path) for path in (*_DEFAULT_DIRECTORIES, *cached)][:_MAX_DIRECTORIES]


def _read_start(fd: int) -> bytes:
    try:
        return os.pread(fd, _MAX_CACHE_BYTES, 0)
    except OSError:
        return b""
