"""Where in the trigger's program it was: frames of build id and offset into names of functions.

Works from the disk, after the kill, where it may take its time. Files are found by their build
id, which is what makes a name true: another version of a library at the same path gives none.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_oom.linux import elf
from otel_oom.model.text import decode_bytes, escape_nonprintable
from otel_oom.model.types import UserFrame

_CACHE: Final = "etc/ld.so.cache"
_CACHE_BYTES: Final = 1 << 18
_STRING: Final = re.compile(rb"[^\0]+")
_DEFAULT_DIRECTORIES: Final = ("lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib")
_DEBUG: Final = "usr/lib/debug/.build-id"

_MOST_DIRECTORIES: Final = 64
_MOST_FILES: Final = 2048
_MOST_ENTRIES: Final = 16_384
_MOST_ROOTS: Final = 4
_MOST_LINES: Final = 512
_REFRESH_S: Final = 60.0


class Resolver:
    """Names for user frames, with the libraries of the host known by their build ids.

    Holds no file open and no symbol table; some 150 KB for a host with 600 libraries. Not safe
    for use by several threads.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        """Look for files below ``root``, the host's; nothing is read before it is needed."""
        self._root = root
        self._libraries: dict[bytes, str] = {}
        self._indexed_s: float | None = None
        self._lines: dict[tuple[UserFrame, bool], str] = {}

    def lines(
        self,
        frames: Sequence[UserFrame],
        executables: Iterable[str] = (),
        roots: Iterable[Path] = (),
    ) -> tuple[str, ...]:
        """One line for each of ``frames``, which go from the inside outwards.

        ``malloc+0x1d4 (libc.so.6)`` is a function, the distance in bytes from its start, and its
        file; ``libc.so.6+0x2a1b3`` a file and an offset in it, where no symbol is for that; and
        ``93ac61…+0x2a1b3`` a build id, where no such file was found. C++ and Rust names stay as
        the compiler wrote them.

        All frames but the first are return addresses, behind the call: each is looked up one
        byte before, since a call at a function's very end returns into the next one.

        Args:
            frames: at most some tens; of those of one file, one pass over its symbols.
            executables: paths of programs that may be among the files, as they see them.
            roots: other roots to look below first, such as ``/proc/PID/root`` of a container.
        """
        asked = [(frame, at > 0) for at, frame in enumerate(frames)]
        unknown: dict[bytes, list[tuple[UserFrame, bool]]] = {}
        for key in asked:
            build_id = _build_id(key[0])
            if key not in self._lines and build_id is not None:
                unknown.setdefault(build_id, []).append(key)
        lines: dict[tuple[UserFrame, bool], str] = {}
        files = self._files(set(unknown), tuple(executables), tuple(roots)[:_MOST_ROOTS])
        for build_id, path in files.items():
            lines |= _named(build_id, path, self._root, unknown[build_id])
        result = tuple(lines.get(key) or self._lines.get(key) or _bare(key[0]) for key in asked)
        self._remember(lines)
        return result

    def _remember(self, lines: dict[tuple[UserFrame, bool], str]) -> None:
        self._lines |= lines
        while len(self._lines) > _MOST_LINES:
            del self._lines[next(iter(self._lines))]

    def _files(
        self, wanted: set[bytes], executables: Sequence[str], roots: Sequence[Path]
    ) -> dict[bytes, str]:
        """The files of those build ids, the likeliest places first."""
        found: dict[bytes, str] = {}

        def look(paths: Iterable[str]) -> None:
            for path in paths:
                if not wanted - found.keys():
                    return
                build_id = _build_id_of(path)
                if build_id is not None and build_id in wanted:
                    found.setdefault(build_id, path)

        for root in (*roots, self._root):
            look(_below(root, path) for path in executables if path.startswith("/"))
        for root in roots:
            look(_libraries(root))
        look(self._known(wanted - found.keys()))
        if wanted - found.keys() and self._index():
            look(self._known(wanted - found.keys()))
        return found

    def _known(self, wanted: Iterable[bytes]) -> list[str]:
        """The host's libraries of those build ids; one may have been replaced since."""
        return [self._libraries[it] for it in wanted if it in self._libraries]

    def _index(self) -> bool:
        """Read the build ids of the host's libraries, once a minute at most; whether it was now."""
        now = time.monotonic()
        if self._indexed_s is not None and now - self._indexed_s < _REFRESH_S:
            return False
        self._indexed_s = now
        found = ((_build_id_of(path), path) for path in _libraries(self._root))
        self._libraries = {build_id: path for build_id, path in found if build_id is not None}
        return True


def _named(
    build_id: bytes, path: str, host: Path, asked: Iterable[tuple[UserFrame, bool]]
) -> dict[tuple[UserFrame, bool], str]:
    """The lines of the frames that are in the file at ``path``."""
    name = escape_nonprintable(decode_bytes(os.fsencode(Path(path).name)))
    with _opened(path) as file:
        if file is None or _padded(file.build_id) != build_id:
            return {}
        # By frame the address that is looked up, and what it lacks to the frame's own.
        addresses: dict[tuple[UserFrame, bool], tuple[int, int]] = {}
        for key in asked:
            back = int(key[1])
            address = file.address(key[0].offset - back)
            if address is not None:
                addresses[key] = address, back
        wanted = {address for address, _ in addresses.values()}
        digits = file.build_id.hex()
        with _opened(_below(host, f"{_DEBUG}/{digits[:2]}/{digits[2:]}.debug")) as whole:
            symbols = file.symbols(list(wanted))
            if whole is not None and whole.build_id == file.build_id:
                symbols |= whole.symbols(list(wanted - symbols.keys()))
            symbols |= file.symbols(list(wanted - symbols.keys()), exported=True)
    lines = {key: f"{name}+{key[0].offset:#x}" for key in asked}
    for key, (address, back) in addresses.items():
        symbol = symbols.get(address)
        if symbol is not None:
            lines[key] = f"{symbol.name}+{symbol.distance + back:#x} ({name})"
    return lines


def _libraries(root: Path) -> Iterator[str]:
    """Shared libraries in the folders of the dynamic loader's cache and the usual ones."""
    files = 0
    seen: set[tuple[int, int]] = set()
    for directory in _directories(root):
        try:
            status = Path(directory).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(directory) as entries:
                for _, entry in zip(range(_MOST_ENTRIES), entries, strict=False):
                    # What is only another name for a library leads to one of these.
                    if ".so" in entry.name and entry.is_file(follow_symlinks=False):
                        files += 1
                        if files > _MOST_FILES:
                            return
                        yield entry.path
        except OSError:
            continue


def _directories(root: Path) -> list[str]:
    """Where libraries are; of the cache (ld.so(8)) its paths are taken and nothing else."""
    with _file(_below(root, _CACHE)) as fd:
        raw = b"" if fd is None else _read(fd)
    paths = (found[0] for found in _STRING.finditer(raw))
    known = {os.fsdecode(it.rpartition(b"/")[0]): None for it in paths if it.startswith(b"/")}
    return [_below(root, it) for it in (*_DEFAULT_DIRECTORIES, *known)][:_MOST_DIRECTORIES]


def _read(fd: int) -> bytes:
    try:
        return os.pread(fd, _CACHE_BYTES, 0)
    except OSError:
        return b""


def _below(root: Path, path: str) -> str:
    return str(root / path.lstrip("/"))


def _build_id(frame: UserFrame) -> bytes | None:
    """The build id in bytes, as long as the kernel makes each; ``None`` if it is no such."""
    try:
        return _padded(bytes.fromhex(frame.build_id))
    except ValueError:
        return None


def _padded(build_id: bytes) -> bytes:
    """The kernel fills up one that is shorter (``parse_build_id()`` of lib/buildid.c)."""
    return build_id.ljust(elf.BUILD_ID_BYTES, b"\0")


def _build_id_of(path: str) -> bytes | None:
    with _opened(path) as file:
        return None if file is None else _padded(file.build_id)


@contextmanager
def _opened(path: str) -> Iterator[elf.Elf | None]:
    with _file(path) as fd:
        yield None if fd is None else elf.read(fd)


@contextmanager
def _file(path: str) -> Iterator[int | None]:
    """A regular file, open for reading; ``None`` if there is none.

    A container may have put a link to a device there, whose opening would do something: what it
    is is found out first.
    """
    fds = []
    try:
        try:
            fds.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
            if stat.S_ISREG(os.fstat(fds[0]).st_mode):
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
                fds.append(os.open(f"/proc/self/fd/{fds[0]}", flags))
        except (OSError, ValueError):
            del fds[1:]
        yield fds[1] if len(fds) > 1 else None
    finally:
        for fd in fds:
            os.close(fd)


def _bare(frame: UserFrame) -> str:
    return f"{frame.build_id}+{frame.offset:#x}"
