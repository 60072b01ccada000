"""Selection of the files to read, in the order of reading."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.commands.replay import rotation
from otel_oom.commands.replay.decompress import STDIN, UnreadableFileError, open_file
from otel_oom.commands.replay.formats import detect, journal_export

_MAX_DEPTH: Final = 5
_MAX_ENTRIES: Final = 1 << 14
_HEAD_BYTES: Final = 1 << 16

_JOURNAL_SUFFIXES: Final = (".journal", ".journal~")
_RANKS: Final = {"kern": 1, "syslog": 2, "messages": 2, "dmesg": 3}
"""Beginnings of names that are read whatever the file begins with, in the order of ranks."""
_DEFAULT_RANK: Final = 2


class LogFile(Struct, frozen=True):
    """A file to read, or all files of the journal, which are read together.

    ``ended_unix_ns`` is the latest time of its last line. ``series`` is the name that rotated files
    of one log share.
    """

    paths: tuple[Path, ...]
    size: int
    ended_unix_ns: int
    series: str
    is_journal: bool = False

    @property
    def path(self) -> Path | None:
        """The path, or ``None`` for standard input."""
        return None if self.paths[0] == STDIN else self.paths[0]


class Selection(Struct, frozen=True):
    """The files to read in their order, and an error for each that can't be read."""

    files: tuple[LogFile, ...]
    errors: tuple[str, ...]


def select_log_files(paths: Sequence[Path]) -> Selection:
    """Return the files of ``paths``, and of directories those that contain kernel log lines.

    The order is by the detail of their lines, so that of equal events the best is kept; files of
    one log follow from old to new.
    """
    files: dict[Path, os.stat_result | None] = {}
    errors: list[str] = []
    for path in paths:
        try:
            status = None if path == STDIN else path.stat()
            if status and stat.S_ISDIR(status.st_mode):
                files |= dict(_in_directory(path, errors))
            else:
                files[path] = status
        except OSError as error:
            errors.append(f"Cannot read {path}: {error.strerror}.")
    return Selection(tuple(_ordered(files)), tuple(errors))


def _in_directory(
    directory: Path, errors: list[str], depth: int = _MAX_DEPTH
) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the kernel logs below a directory; links are not followed."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)[:_MAX_ENTRIES]
    except OSError as error:
        errors.append(f"Cannot read {directory}: {error.strerror}.")
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if depth > 1:
                yield from _in_directory(path, errors, depth - 1)
        elif entry.is_file(follow_symlinks=False):
            try:
                if path.name.endswith(_JOURNAL_SUFFIXES) or _is_kernel_log(path):
                    yield path, entry.stat(follow_symlinks=False)
            except UnreadableFileError as error:
                errors.append(str(error))


def _is_kernel_log(path: Path) -> bool:
    """Return whether the name, or a line at the beginning, is that of a kernel log."""
    with open_file(path) as (stream, _):
        head = stream.read(_HEAD_BYTES)
    if path.name.startswith(tuple(_RANKS)) or head.startswith(journal_export.BEGIN):
        return True
    return any(detect.parse_line(line) for line in head.split(b"\n"))


def _ordered(files: Mapping[Path, os.stat_result | None]) -> list[LogFile]:
    logs = [
        _log_file(path, status)
        for path, status in files.items()
        if not path.name.endswith(_JOURNAL_SUFFIXES)
    ]
    logs.sort(key=_order)
    logs = [
        file for _, series in groupby(logs, lambda file: file.series) for file in _dated(series)
    ]
    journals = sorted(path for path in files if path.name.endswith(_JOURNAL_SUFFIXES))
    if journals:
        size = sum(status.st_size for path in journals if (status := files[path]))
        logs.insert(0, LogFile(tuple(journals), size, time.time_ns(), "", is_journal=True))
    return logs


def _log_file(path: Path, status: os.stat_result | None) -> LogFile:
    is_regular = status is not None and stat.S_ISREG(status.st_mode)
    return LogFile(
        (path,),
        status.st_size if status else 0,
        status.st_mtime_ns if status and is_regular else time.time_ns(),
        str(path.with_name(rotation.base_name(path.name))),
    )


def _order(file: LogFile) -> tuple[int, str, tuple[int, str, int], int]:
    name = file.paths[0].name
    rank = next((rank for start, rank in _RANKS.items() if name.startswith(start)), _DEFAULT_RANK)
    return rank, file.series, rotation.age_key(name), file.ended_unix_ns


def _dated(series: Iterable[LogFile]) -> list[LogFile]:
    files = list(series)
    ends = rotation.latest_ends([(file.paths[0], file.ended_unix_ns) for file in files])
    return [replace(file, ended_unix_ns=end) for file, end in zip(files, ends, strict=True)]
