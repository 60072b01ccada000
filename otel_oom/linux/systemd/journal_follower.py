"""Follow systemd's journal by journalctl(1): the messages of some units.

The program is one more process of some megabytes, and runs only where there is such a unit. Its
library would run in this process, which a journal file that is truncated ends (SIGBUS). Unread
entries stay in the journal: none is lost while the store accepts none.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum, auto
from typing import Final

from otel_oom.linux import clock
from otel_oom.linux.systemd.journal_cursor import JournalCursor
from otel_oom.linux.systemd.journal_entry import (
    OUTPUT_FIELDS,
    JournalEntry,
    parse_cursor,
    parse_entry,
)

_LOG = logging.getLogger(__name__)

_ARGUMENTS: Final = (
    "--output=json",
    f"--output-fields={OUTPUT_FIELDS}",
    "--all",  # fields longer than 4 KiB too
    "--no-pager",
    "--quiet",
)
_READ_BYTES: Final = 1 << 16
_MAX_READS: Final = 64
"""Reads in one call; the rest waits, and the descriptor stays readable."""
_MAX_LINE_BYTES: Final = 1 << 18
_RETRY_S: Final = 5.0
_MAX_FAILURES: Final = 3
"""After as many in a row, this boot is read from its start: duplicates are recognised."""


class _Step(Enum):
    """A run of journalctl. Since systemd 254, --follow may omit entries of earlier boots."""

    NEWEST = auto()
    """Read the cursor of the journal's end, to start there the next time."""
    PAST = auto()
    """Read the entries up to now."""
    FOLLOW = auto()
    """Wait for entries."""


class JournalFollower:
    """The entries of ``units`` after ``cursor``, which :meth:`commit` advances."""

    def __init__(
        self,
        units: Sequence[str],
        cursor: JournalCursor,
        epoll: select.epoll,
        *,
        history: bool,
        program: str = "journalctl",
    ) -> None:
        """Start the program and register its output with ``epoll``.

        ``history``: without a saved cursor, read this boot from its start. Nothing is raised where
        the program does not exist: then there are no entries.
        """
        # Several matches of one field are alternatives (journalctl(1)).
        self._matches = [f"_SYSTEMD_UNIT={unit}" for unit in units]
        self._boot = clock.boot_id().replace("-", "")
        self._cursor = cursor
        self._history = history
        self._program = program
        self._epoll = epoll
        self._process: subprocess.Popen[bytes] | None = None
        self._retry_at = 0.0
        self._logged_error = ""
        self._newest: str | None = None
        self._partial = b""
        self._lines: deque[bytes] = deque()
        self._failures = 0
        self._step = _Step.PAST if cursor.cursor else _Step.NEWEST
        self._start()

    def commit(self, cursor: str) -> None:
        """Save that the entries up to ``cursor`` are done."""
        self._cursor.save(cursor)

    def close(self) -> None:
        """End the program."""
        if self._process is not None:
            self._process.kill()
        self._end_process()

    def read_entries(self) -> Iterator[JournalEntry]:
        """Return the entries that are available, oldest first; never waits.

        Entries that are not consumed come at the next call.
        """
        if self._process is None and time.monotonic() >= self._retry_at:
            self._start()
        for _ in range(_MAX_READS):
            yield from self._parse_lines()
            if not self._read():
                break
        yield from self._parse_lines()

    def _parse_lines(self) -> Iterator[JournalEntry]:
        while self._lines:
            line = self._lines.popleft()
            if self._step is _Step.NEWEST:
                self._newest = parse_cursor(line)
            elif (entry := parse_entry(line)) and entry.cursor != self._cursor.cursor:
                yield entry

    def _read(self) -> bool:
        """Read output of the program; return whether there may be more."""
        if self._process is None or self._process.stdout is None:
            return False
        try:
            output = os.read(self._process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        if not output:
            self._on_end(self._end_process())
            return True
        *lines, self._partial = (self._partial + output).split(b"\n")
        self._lines.extend(lines)
        if len(self._partial) > _MAX_LINE_BYTES:
            # No OOM daemon writes so much: neither is the rest of the line an entry.
            self._partial = b""
        return True

    def _start(self) -> None:
        self._partial = b""
        try:
            self._process = subprocess.Popen(
                [self._program, *_ARGUMENTS, *self._selection()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError as error:
            self._schedule_retry(f"{self._program}: {error.strerror}")
            return
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        os.set_blocking(self._process.stdout.fileno(), False)
        self._epoll.register(self._process.stdout, select.EPOLLIN)

    def _selection(self) -> list[str]:
        if self._step is _Step.NEWEST:
            return ["--lines=1"]
        cursor = self._cursor.cursor
        # --after-cursor skips one entry too many if the cursor's own is of another unit.
        begin = f"--cursor={cursor}" if cursor else f"_BOOT_ID={self._boot}"
        if self._step is _Step.PAST:
            return [begin, *self._matches]
        return ["--follow", "--no-tail", begin, *self._matches]

    def _end_process(self) -> int:
        if self._process is None:
            return 0
        if self._process.stdout is not None:
            self._epoll.unregister(self._process.stdout)
            self._process.stdout.close()
        code = self._process.wait()
        self._process = None
        return code

    def _on_end(self, code: int) -> None:
        if self._step is _Step.NEWEST and code == 0:
            self._step = _Step.PAST
            if not self._history and self._newest:
                self._cursor.save(self._newest)
            self._start()
        elif self._step is _Step.PAST and code == 0:
            self._step = _Step.FOLLOW
            if self._cursor.cursor is None and self._newest:
                self._cursor.save(self._newest)
            self._logged_error, self._failures = "", 0
            self._start()
        else:
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                # A journal that was made again may reject the cursor.
                self._cursor.cursor = None
            self._step = _Step.PAST if self._cursor.cursor else _Step.NEWEST
            self._schedule_retry(f"{self._program} exited with code {code}")

    def _schedule_retry(self, error: str) -> None:
        self._retry_at = time.monotonic() + _RETRY_S
        if error != self._logged_error:
            _LOG.warning("Cannot read userspace OOM daemons from the journal (%s); retrying", error)
        self._logged_error = error
