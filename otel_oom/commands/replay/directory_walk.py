"""Search of a directory for the files that only the host itself can have written.

A tenant may own files and directories below /var/log, and write anything there. So links are not
followed, and what other users can write is neither entered nor read.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs

_MAX_DEPTH: Final = 5
_MAX_ENTRIES: Final = 1 << 16
"""Entries of all directories below the one that was named."""
_SYSLOG_USER: Final = "syslog"
"""The user of Ubuntu's rsyslogd, who owns its files."""
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")
_MACHINE_ID_FILE: Final = Path("/etc/machine-id")


class DirectoryWalk:
    """A walk below ``directory``, which has the given ``status``."""

    def __init__(self, directory: Path, status: os.stat_result) -> None:
        self._directory = directory
        self._owners = {0, os.geteuid(), status.st_uid}
        with suppress(KeyError):
            self._owners.add(pwd.getpwnam(_SYSLOG_USER).pw_uid)
        self._machine_id = read_machine_id()
        self._entries_left = _MAX_ENTRIES
        self._is_cut_off = False
        self.skipped: list[Path] = []
        """Files and directories that other users, or guests, can write."""
        self.errors: list[str] = []

    def find_files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the files in the order of their names."""
        yield from self._find_below(self._directory, _MAX_DEPTH)

    def _find_below(self, directory: Path, depth: int) -> Iterator[tuple[Path, os.stat_result]]:
        entries = self._list(directory)
        names = {name for name, _ in entries}
        for name, status in entries:
            path, is_directory = directory / name, stat.S_ISDIR(status.st_mode)
            if not is_directory and not stat.S_ISREG(status.st_mode):
                continue
            if not self._is_trusted(status) or self._is_guest(name, names):
                self.skipped.append(path)
            elif not is_directory:
                yield path, status
            elif depth > 1:
                yield from self._find_below(path, depth - 1)

    def _list(self, directory: Path) -> list[tuple[str, os.stat_result]]:
        entries = []
        try:
            with os.scandir(directory) as scanned:
                for entry in islice(scanned, self._entries_left):
                    # It may have been rotated away.
                    with suppress(FileNotFoundError):
                        entries.append((entry.name, entry.stat(follow_symlinks=False)))
        except OSError as error:
            self.errors.append(f"Cannot read {directory}: {error.strerror}.")
        self._entries_left -= len(entries)
        if not self._entries_left and not self._is_cut_off:
            self._is_cut_off = True
            self.errors.append(f"Not all of {directory} is read: more than {_MAX_ENTRIES} files.")
        return sorted(entries, key=lambda entry: entry[0])

    def _is_trusted(self, status: os.stat_result) -> bool:
        return status.st_uid in self._owners and not status.st_mode & stat.S_IWOTH

    def _is_guest(self, name: str, names: set[str]) -> bool:
        """Return whether a directory of journals, named by a machine, is that of a guest.

        A container of systemd-nspawn writes to the one with its machine-id(5) by itself.
        """
        is_own = name == self._machine_id
        return not is_own and self._machine_id in names and bool(_MACHINE_ID.fullmatch(name))


def read_machine_id() -> str:
    """Return the machine-id(5) of this host; empty if there is none."""
    return (procfs.read_text(_MACHINE_ID_FILE, 64) or "").strip()
