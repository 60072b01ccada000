"""systemd's journal as it grows, read by journalctl(1): what some units say.

The program is one more process, of some megabytes, only where there is something to read. The
library would be in ours, and a journal's file that is cut short under it ends a process (SIGBUS).
What nobody reads stays in the journal: nothing is lost while the store takes nothing.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

from otel_oom.linux import clock
from otel_oom.linux.systemd.journal_cursor import JournalCursor
from otel_oom.linux.systemd.journal_entry import FIELDS, Entry, cursor_of, entry_of

_LOG = logging.getLogger(__name__)

_ARGUMENTS: Final = (
    "--output=json",
    f"--output-fields={FIELDS}",
    "--all",  # of longer fields than 4 KiB too
    "--no-pager",
    "--quiet",
)
_READ_BYTES: Final = 1 << 16
_MOST_READS: Final = 64
"""So much is read in one turn; the rest waits, and stays readable."""
_LINE_BYTES: Final = 1 << 18
_RETRY_S: Final = 5.0
_MOST_FAILURES: Final = 3
"""After so many in a row this boot is read from its start: what was told is not told again."""


class _Step(Enum):
    """What the program is asked for, one after the other.

    Some versions tell nothing of earlier boots with --follow (since systemd 254).
    """

    NEWEST = "where the journal ends, to begin from there the next time"
    PAST = "what was said up to now"
    FOLLOW = "what is being said"


class JournalFollower:
    """The entries of ``units`` behind ``position``, which :meth:`done_to` moves on."""

    def __init__(
        self,
        units: Sequence[str],
        position: JournalCursor,
        epoll: select.epoll,
        *,
        history: bool,
        program: str = "journalctl",
    ) -> None:
        """Start the program, and have ``epoll`` ready when it tells something.

        ``history`` is whether this boot is read from its start where nothing was before. Nothing is
        raised where there is no such program: then there are no entries.
        """
        self._matches = _matches(units)
        self._boot = clock.boot_id().replace("-", "")
        self._position = position
        self._history = history
        self._program = program
        self._epoll = epoll
        self._process: subprocess.Popen[bytes] | None = None
        self._retry_at = 0.0
        self._told = ""
        self._newest: str | None = None
        self._rest = b""
        self._lines: deque[bytes] = deque()
        self._failures = 0
        self._step = _Step.PAST if position.cursor else _Step.NEWEST
        self._start()

    def done_to(self, cursor: str) -> None:
        """Say that what stands up to there needs no reading again."""
        self._position.set(cursor)

    def close(self) -> None:
        """End the program."""
        if self._process is not None:
            self._process.kill()
        self._end()

    def entries(self) -> Iterator[Entry]:
        """What waits, oldest first; what is not asked for comes at the next call. Never waits."""
        if self._process is None and time.monotonic() >= self._retry_at:
            self._start()
        for _ in range(_MOST_READS):
            yield from self._taken()
            if not self._read():
                break
        yield from self._taken()

    def _taken(self) -> Iterator[Entry]:
        """What was read, and not asked for before."""
        while self._lines:
            line = self._lines.popleft()
            if self._step is _Step.NEWEST:
                self._newest = cursor_of(line)
            elif (entry := entry_of(line)) and entry.cursor != self._position.cursor:
                yield entry

    def _read(self) -> bool:
        """Take what the program has written; whether there may be more."""
        if self._process is None or self._process.stdout is None:
            return False
        try:
            read = os.read(self._process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        if not read:
            self._ended(self._end())
            return True
        *lines, self._rest = (self._rest + read).split(b"\n")
        self._lines.extend(lines)
        if len(self._rest) > _LINE_BYTES:
            # No killer says so much: the rest of it is no entry either.
            self._rest = b""
        return True

    def _start(self) -> None:
        self._rest = b""
        try:
            self._process = subprocess.Popen(
                [self._program, *_ARGUMENTS, *self._asked()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError as error:
            self._fail(f"{self._program} can't be run: {error.strerror}")
            return
        assert self._process.stdout is not None  # noqa: S101  it was asked for
        os.set_blocking(self._process.stdout.fileno(), False)
        self._epoll.register(self._process.stdout, select.EPOLLIN)

    def _asked(self) -> list[str]:
        if self._step is _Step.NEWEST:
            return ["--lines=1"]
        cursor = self._position.cursor
        # --after-cursor leaves one more out, whichever comes, where that entry is of another unit.
        behind = f"--cursor={cursor}" if cursor else f"_BOOT_ID={self._boot}"
        if self._step is _Step.PAST:
            return [behind, *self._matches]
        return ["--follow", "--no-tail", behind, *self._matches]

    def _end(self) -> int:
        """End the program and what it was read by; its exit code."""
        if self._process is None:
            return 0
        if self._process.stdout is not None:
            self._epoll.unregister(self._process.stdout)
            self._process.stdout.close()
        code = self._process.wait()
        self._process = None
        return code

    def _ended(self, code: int) -> None:
        """Go on to the next step, or begin again after a while where it went wrong."""
        if self._step is _Step.NEWEST and code == 0:
            self._step = _Step.PAST
            if not self._history and self._newest:
                self._position.set(self._newest)
            self._start()
        elif self._step is _Step.PAST and code == 0:
            self._step = _Step.FOLLOW
            if self._position.cursor is None and self._newest:
                self._position.set(self._newest)
            self._told, self._failures = "", 0
            self._start()
        else:
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                # It may be the cursor: a journal made anew may not take it.
                self._position.cursor = None
            self._step = _Step.PAST if self._position.cursor else _Step.NEWEST
            self._fail(f"{self._program} ended with code {code}")

    def _fail(self, why: str) -> None:
        self._retry_at = time.monotonic() + _RETRY_S
        if why != self._told:
            _LOG.warning(
                "What other programs kill for want of memory is not told, for %s; it is tried "
                "again",
                why,
            )
        self._told = why


def _matches(units: Sequence[str]) -> list[str]:
    # Several of one field are alternatives (journalctl(1)).
    return [f"_SYSTEMD_UNIT={unit}" for unit in units]
