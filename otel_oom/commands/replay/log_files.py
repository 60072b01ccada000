"""Selection of the files to read, in the order of reading."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.commands.replay import rotation
from otel_oom.commands.replay.decompress import STDIN, UnreadableFileError, open_file
from otel_oom.commands.replay.directory_walk import DirectoryWalk
from otel_oom.commands.replay.formats import detect, journal_export

_HEAD_BYTES: Final = 1 << 16

_JOURNAL_SUFFIXES: Final = (".journal", ".journal~")
_RANKS: Final = {"kern": 1, "syslog": 2, "messages": 2, "dmesg": 3}
"""Beginnings of the names of the system's logs, in the order of ranks."""
_DEFAULT_RANK: Final = 2


class LogFile(Struct, frozen=True):
    """A file to read, or all files of the journal, which are read together.

    ``ended_unix_ns`` is the latest time of its last line. ``series`` is the name that rotated files
    of one log share. ``is_named``: on the command line, not found in a directory. ``is_vouched``:
    by the user who named it, or by the name of a log of the system.
    """

    paths: tuple[Path, ...]
    size: int
    ended_unix_ns: int
    series: str
    is_journal: bool = False
    is_named: bool = False
    is_vouched: bool = True

    @property
    def path(self) -> Path | None:
        """The path, or ``None`` for standard input."""
        return None if self.paths[0] == STDIN else self.paths[0]


class Selection(Struct, frozen=True):
    """The files to read in their order, an error for each that can't be read, and notes."""

    files: tuple[LogFile, ...]
    errors: tuple[str, ...]
    notes: tuple[str, ...] = ()


class _SelectedFile(Struct, frozen=True):
    path: Path
    status: os.stat_result | None
    is_named: bool
    is_vouched: bool


def select_log_files(paths: Sequence[Path]) -> Selection:
    """Return the files of ``paths``, and of directories those that contain kernel log lines.

    The order is by the detail of their lines, so that of equal events the best is kept; files of
    one log follow from old to new.
    """
    walked_files: dict[Path, _SelectedFile] = {}
    named_files: dict[Path, _SelectedFile] = {}
    errors: list[str] = []
    skipped: list[Path] = []
    for path in paths:
        try:
            status = None if path == STDIN else path.stat()
            if status and stat.S_ISDIR(status.st_mode):
                walk = DirectoryWalk(path, status)
                walked_files |= {file.path: file for file in _find_logs(walk)}
                errors += walk.errors
                skipped += walk.skipped
            else:
                named_files[path] = _SelectedFile(path, status, is_named=True, is_vouched=True)
        except OSError as error:
            errors.append(f"Cannot read {path}: {error.strerror}.")
    return Selection(
        tuple(_ordered({**walked_files, **named_files}.values())), tuple(errors), _notes(skipped)
    )


def _notes(skipped: Sequence[Path]) -> tuple[str, ...]:
    if not skipped:
        return ()
    note = (
        f"Not read, because others can write them: {len(skipped)} files and directories, such as "
        f"{skipped[0]}. To read a file nevertheless, name it."
    )
    return (note,)


def _find_logs(walk: DirectoryWalk) -> Iterator[_SelectedFile]:
    """Yield the kernel logs below a directory."""
    for path, status in walk.find_files():
        try:
            has_log_name = path.name.startswith(tuple(_RANKS)) or _is_journal(path)
            if has_log_name or _is_kernel_log(path):
                yield _SelectedFile(path, status, is_named=False, is_vouched=has_log_name)
        except UnreadableFileError as error:
            walk.errors.append(str(error))


def _is_journal(path: Path) -> bool:
    return path.name.endswith(_JOURNAL_SUFFIXES)


def _is_kernel_log(path: Path) -> bool:
    """Return whether a line at the beginning is that of a kernel log."""
    with open_file(path) as (stream, _):
        head = stream.read(_HEAD_BYTES)
    if head.startswith(journal_export.BEGIN):
        return True
    return any(detect.parse_line(line) for line in head.split(b"\n"))


def _ordered(files: Collection[_SelectedFile]) -> list[LogFile]:
    logs = [_log_file(file) for file in files if not _is_journal(file.path)]
    logs.sort(key=_order)
    logs = [
        file for _, series in groupby(logs, lambda file: file.series) for file in _dated(series)
    ]
    journals = sorted(
        (file for file in files if _is_journal(file.path)), key=lambda file: file.path
    )
    if journals:
        size = sum(file.status.st_size for file in journals if file.status)
        paths = tuple(file.path for file in journals)
        logs.insert(0, LogFile(paths, size, time.time_ns(), "", is_journal=True))
    return logs


def _log_file(file: _SelectedFile) -> LogFile:
    path, status = file.path, file.status
    is_regular = status is not None and stat.S_ISREG(status.st_mode)
    return LogFile(
        (path,),
        status.st_size if status else 0,
        status.st_mtime_ns if status and is_regular else time.time_ns(),
        str(path.with_name(rotation.base_name(path.name))),
        is_named=file.is_named,
        is_vouched=file.is_vouched,
    )


def _order(file: LogFile) -> tuple[bool, int, str, tuple[int, str, int], int]:
    name = file.paths[0].name
    rank = next((rank for start, rank in _RANKS.items() if name.startswith(start)), _DEFAULT_RANK)
    age = rotation.age_key(name)
    return not file.is_vouched, rank, file.series, age, file.ended_unix_ns


def _dated(series: Iterable[LogFile]) -> list[LogFile]:
    files = list(series)
    ends = rotation.latest_ends([(file.paths[0], file.ended_unix_ns) for file in files])
    return [replace(file, ended_unix_ns=end) for file, end in zip(files, ends, strict=True)]
