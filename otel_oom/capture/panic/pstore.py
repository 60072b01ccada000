"""What the kernel stored of its log when it panicked (Documentation/ABI/testing/pstore).

A record is a file of plain text, named by its backend and a number that grows: a line with reason,
count and part (pstore_dump() of fs/pstore/platform.c), then lines as syslog(2) has them. The first
part is the end of the log, the second what was before it. A file's time is the kernel's own, of
when it stored the record. systemd-pstore(8) moves the files elsewhere and keeps name and time.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S, NS_PER_US

_LOG = logging.getLogger(__name__)

FOLDERS: Final = (Path("/sys/fs/pstore"), Path("/var/lib/systemd/pstore"))

_BACKEND: Final = Path("/sys/module/pstore/parameters/backend")

_MOST_FILES: Final = 1024
_MOST_BYTES: Final = 1 << 20
"""More than a kernel stores by default (10 KiB); a larger file is read that far."""
_DEPTH: Final = 3
"""systemd-pstore(8) puts the parts of one record into up to two folders."""

_NAME: Final = re.compile(r"dmesg-(?P<backend>[\w-]{1,64})-(?P<number>\d{1,20})")
_NOT_UNPACKED: Final = ".enc.z"
_HEAD: Final = re.compile(rb"(?P<reason>\w{1,32})#(?P<count>\d{1,10}) Part(?P<part>\d{1,6})")
_PREFIXED: Final = re.compile(
    rb"<(?P<level>\d{1,4})>(?:\[ {0,9}(?P<s>\d{1,9})\.(?P<us>\d{6})\])?"
    rb"(?:\[ {0,9}(?:T(?P<caller>\d{1,10})|C\d{1,10})\])? ?(?P<text>.*)",
    re.DOTALL,
)
_FACILITY_SHIFT: Final = 3


@dataclass(frozen=True, slots=True)
class PstoreDump:
    """The end of the log of a kernel that panicked.

    ``folder`` is where it was found; ``unix_ns`` when it was stored, in nanoseconds of Unix time,
    by backends that keep seconds alone (ERST) as by others.
    """

    folder: Path
    unix_ns: int
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    folder: Path
    order: tuple[str, int]
    unix_ns: int
    dump: tuple[bytes, bytes]
    number: int
    text: bytes


def has_backend(parameter: Path = _BACKEND) -> bool:
    """Whether a panic would be stored by this kernel."""
    try:
        return parameter.read_text(encoding="ascii", errors="replace").strip() not in {"", "(null)"}
    except OSError:
        return False


def panics(folders: Sequence[Path] = FOLDERS) -> Iterator[PstoreDump]:
    """Every panic that was stored and can be read, whatever it was for, oldest first."""
    parts = [part for folder in folders for part in _parts(folder)]
    parts.sort(key=lambda part: (str(part.folder), part.order))
    begun: list[_Part] = []
    for part in parts:
        if begun and not _follows(begun[-1], part):
            yield _joined(begun)
            begun = []
        begun.append(part)
    if begun:
        yield _joined(begun)


def _follows(last: _Part, part: _Part) -> bool:
    """Whether it is the next older one of the same dump: another may have the same count."""
    return (
        part.folder == last.folder
        and part.order[0] == last.order[0]
        and part.dump == last.dump
        and part.number == last.number + 1
    )


def _joined(parts: Sequence[_Part]) -> PstoreDump:
    texts = [text for part in reversed(parts) for text in part.text.split(b"\n")]
    lines = [_line(text, at) for at, text in enumerate(texts)]
    return PstoreDump(
        parts[0].folder, parts[0].unix_ns, tuple(line for line in lines if line is not None)
    )


def _parts(folder: Path) -> Iterator[_Part]:
    packed = 0
    for path in islice(_files(folder, _DEPTH), _MOST_FILES):
        packed += path.name.endswith(_NOT_UNPACKED)
        named = _NAME.fullmatch(path.name)
        file = _read(path) if named else None
        if named is None or file is None:
            continue
        text, unix_ns = file
        head, _, body = text.partition(b"\n")
        about = _HEAD.fullmatch(head)
        if about and about["reason"] == b"Panic":
            order = named["backend"], int(named["number"])
            dump = about["reason"], about["count"]
            yield _Part(folder, order, unix_ns, dump, int(about["part"]), body)
    if packed:
        _LOG.warning(
            "%d records in %s were stored by a kernel that compressed them in a way which this one "
            "does not know: an OOM panic among them can't be told. Boot the kernel that wrote them "
            "and start otel-oom there.",
            packed,
            folder,
        )


def _files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        _LOG.warning(
            "Panics that %s may have kept can't be told, for it can't be read. Run this as root or "
            "with the capability CAP_DAC_READ_SEARCH (systemd: AmbientCapabilities=).",
            folder,
        )
        return
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("dmesg-") and entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        elif depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), depth - 1)


def _read(path: Path) -> tuple[bytes, int] | None:
    """A file's bytes and time; ``None`` if it is no regular file, or gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        return os.read(descriptor, _MOST_BYTES), max(0, status.st_mtime_ns)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _line(raw: bytes, sequence: int) -> Line | None:
    """The kernel's own line; ``None`` for user space's, for a backend's notice and a torn one."""
    found = _PREFIXED.fullmatch(raw)
    if not found or int(found["level"]) >> _FACILITY_SHIFT:
        return None
    seconds, micros, caller = found["s"], found["us"], found["caller"]
    return Line(
        text=decode_bytes(found["text"]),
        time_ns=int(seconds) * NS_PER_S + int(micros) * NS_PER_US if seconds else 0,
        sequence=sequence,
        caller=int(caller) if caller else None,
    )
