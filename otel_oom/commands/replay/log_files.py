"""Which files to read, and in which order: what tells most of a line first, older before newer."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

from otel_oom.commands.replay import rotation
from otel_oom.commands.replay.decompress import STDIN, UnreadableError, opened
from otel_oom.commands.replay.formats import detect, journal_export
from otel_oom.commands.replay.log_file import LogFile

_DEPTH: Final = 5
_MOST_FILES: Final = 1 << 14
_SNIFFED_BYTES: Final = 1 << 16

_JOURNALS: Final = (".journal", ".journal~")
_USUAL: Final = ("kern", "syslog", "messages", "dmesg")
"""How those begin that have kernel logs, whatever stands at their beginning."""
_RANKS: Final = (("kern", 1), ("syslog", 2), ("messages", 2), ("dmesg", 3))


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The files to be read, in their order, and why some can't be, as sentences."""

    files: tuple[LogFile, ...]
    refused: tuple[str, ...]


def chosen(paths: Sequence[Path]) -> LogFiles:
    """What to read of ``paths``: of a folder those files that have lines of a kernel's log."""
    files: dict[Path, os.stat_result | None] = {}
    refused: list[str] = []
    for path in paths:
        try:
            found = None if path == STDIN else path.stat()
            if found and stat.S_ISDIR(found.st_mode):
                files |= dict(_in_folder(path, refused))
            else:
                files[path] = found
        except OSError as error:
            refused.append(f"{path} can't be read: {error.strerror}.")
    return LogFiles(tuple(_ordered(files)), tuple(refused))


def _in_folder(
    folder: Path, refused: list[str], depth: int = _DEPTH
) -> Iterator[tuple[Path, os.stat_result]]:
    """The kernel logs below a folder; links are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)[:_MOST_FILES]
    except OSError as error:
        refused.append(f"{folder} can't be read: {error.strerror}.")
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if depth > 1:
                yield from _in_folder(path, refused, depth - 1)
        elif entry.is_file(follow_symlinks=False):
            try:
                if path.name.endswith(_JOURNALS) or _is_kernels(path):
                    yield path, entry.stat(follow_symlinks=False)
            except UnreadableError as error:
                refused.append(str(error))


def _is_kernels(path: Path) -> bool:
    """Whether a file is a kernel's log, by its name or by a line at its beginning.

    Raises:
        UnreadableError: it can't be read.
    """
    with opened(path) as (stream, _):
        head = stream.read(_SNIFFED_BYTES)
    if path.name.startswith(_USUAL) or head.startswith(journal_export.BEGIN):
        return True
    return any(detect.parse(line) for line in head.split(b"\n"))


def _ordered(files: dict[Path, os.stat_result | None]) -> list[LogFile]:
    found = [
        LogFile(
            (path,),
            status.st_size if status else 0,
            status.st_mtime_ns if status and stat.S_ISREG(status.st_mode) else time.time_ns(),
            str(path.with_name(rotation.base(path.name))),
        )
        for path, status in files.items()
        if not path.name.endswith(_JOURNALS)
    ]
    found.sort(key=lambda file: (_rank(file.paths[0].name), file.series, rotation.age(file)))
    found = [file for _, series in groupby(found, _series) for file in rotation.ended([*series])]
    journals = sorted(path for path in files if path.name.endswith(_JOURNALS))
    if journals:
        size = sum(status.st_size for path, status in files.items() if status and path in journals)
        found.insert(0, LogFile(tuple(journals), size, time.time_ns(), "", is_journal=True))
    return found


def _rank(name: str) -> int:
    return next((rank for begin, rank in _RANKS if name.startswith(begin)), 2)


def _series(file: LogFile) -> str:
    return file.series
