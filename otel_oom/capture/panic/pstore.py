"""Read the log that the kernel stored when it panicked (Documentation/ABI/testing/pstore).

A record is a text file, named by its backend and a growing number. It has a line with reason, count
and part (pstore_dump() of fs/pstore/platform.c), then lines as in syslog(2). The first part is the
end of the log, the second precedes it. The file's time is when the kernel stored the record.
systemd-pstore(8) moves the files and keeps name and time.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux import launcher
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.syslog_line import parse_syslog_line

_LOG = logging.getLogger(__name__)

FOLDERS: Final = (Path("/sys/fs/pstore"), Path("/var/lib/systemd/pstore"))

_BACKEND: Final = Path("/sys/module/pstore/parameters/backend")

_MAX_FILES: Final = 1024
_MAX_BYTES: Final = 1 << 20
"""More than a kernel stores by default (10 KiB); a larger file is truncated."""
_MAX_DEPTH: Final = 3
"""systemd-pstore(8) puts the parts of one record into up to two folders."""

_NAME: Final = re.compile(r"dmesg-(?P<backend>[\w-]{1,64})-(?P<number>\d{1,20})")
_COMPRESSED: Final = ".enc.z"
_HEADER: Final = re.compile(rb"(?P<reason>\w{1,32})#(?P<count>\d{1,10}) Part(?P<part>\d{1,6})")


class PstoreDump(Struct, frozen=True):
    """The end of the log of a kernel that panicked.

    ``folder`` is where it was found. ``unix_ns`` is when it was stored, in nanoseconds of Unix
    time; some backends (ERST) keep seconds only.
    """

    folder: Path
    unix_ns: int
    lines: tuple[Line, ...]


class _Part(Struct, frozen=True):
    folder: Path
    order: tuple[str, int]
    unix_ns: int
    dump: tuple[bytes, bytes]
    number: int
    text: bytes


def has_backend(parameter: Path = _BACKEND) -> bool:
    """Return true if this kernel would store a panic."""
    try:
        return parameter.read_text(encoding="ascii", errors="replace").strip() not in {"", "(null)"}
    except OSError:
        return False


def read_panic_dumps(folders: Sequence[Path] = FOLDERS) -> Iterator[PstoreDump]:
    """Yield every readable dump of a panic, for whatever reason, oldest first."""
    parts = [part for folder in folders for part in _read_parts(folder)]
    parts.sort(key=lambda part: (str(part.folder), part.order))
    dump: list[_Part] = []
    for part in parts:
        if dump and not _follows(dump[-1], part):
            yield _join_parts(dump)
            dump = []
        dump.append(part)
    if dump:
        yield _join_parts(dump)


def _follows(last: _Part, part: _Part) -> bool:
    """Return true for the next older part of the same dump: another may have the same count."""
    return (
        part.folder == last.folder
        and part.order[0] == last.order[0]
        and part.dump == last.dump
        and part.number == last.number + 1
    )


def _join_parts(parts: Sequence[_Part]) -> PstoreDump:
    texts = [text for part in reversed(parts) for text in part.text.split(b"\n")]
    lines = [_parse_line(text, index) for index, text in enumerate(texts)]
    return PstoreDump(
        parts[0].folder, parts[0].unix_ns, tuple(line for line in lines if line is not None)
    )


def _read_parts(folder: Path) -> Iterator[_Part]:
    compressed = 0
    for path in islice(_list_files(folder, _MAX_DEPTH), _MAX_FILES):
        compressed += path.name.endswith(_COMPRESSED)
        name = _NAME.fullmatch(path.name)
        content = _read_file(path) if name else None
        if name is None or content is None:
            continue
        text, unix_ns = content
        first_line, _, body = text.partition(b"\n")
        header = _HEADER.fullmatch(first_line)
        if header and header["reason"] == b"Panic":
            order = name["backend"], int(name["number"])
            dump = header["reason"], header["count"]
            yield _Part(folder, order, unix_ns, dump, int(header["part"]), body)
    if compressed:
        _LOG.warning(
            "Cannot decompress %d records in %s: OOM panics may be missing. Boot the kernel that "
            "compressed them.",
            compressed,
            folder,
        )


def _list_files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        _LOG.warning(
            "Cannot read %s: OOM panics may be missing. %s",
            folder,
            launcher.grant_capabilities(["DAC_READ_SEARCH"]),
        )
        return
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("dmesg-") and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        elif depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _list_files(Path(entry.path), depth - 1)


def _read_file(path: Path) -> tuple[bytes, int] | None:
    """Return a file's bytes and time; ``None`` if it is no regular file, or gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        return os.read(descriptor, _MAX_BYTES), max(0, status.st_mtime_ns)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _parse_line(raw: bytes, sequence: int) -> Line | None:
    """Parse a line of the kernel; ``None`` for user space's, a backend's notice or a torn one."""
    line = parse_syslog_line(raw)
    return line.to_line(sequence) if line and line.is_kernel else None
