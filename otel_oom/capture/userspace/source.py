"""Kills by userspace OOM daemons as a source of events, read from systemd's journal."""

from __future__ import annotations

import logging
import math
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Self

from msgspec.structs import replace

from otel_oom.capture.source import Handler
from otel_oom.capture.userspace.daemons import UNITS, installed_daemons, is_program_of
from otel_oom.capture.userspace.messages import parse_message
from otel_oom.capture.userspace.verifier import KillVerifier
from otel_oom.linux import clock
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.process import ProcessDir, memory_cgroup_path
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.linux.systemd.journal_cursor import JournalCursor
from otel_oom.linux.systemd.journal_entry import JournalEntry
from otel_oom.linux.systemd.journal_follower import JournalFollower
from otel_oom.model.events import UserspaceKill, VictimExit
from otel_oom.model.loss import LostEvents
from otel_oom.model.types import Capture, Memcg, Task
from otel_oom.model.units import NS_PER_US

_LOG = logging.getLogger(__name__)

_CHECK_INTERVAL_S: Final = 60.0
"""Interval of the checks for a daemon on a host without any."""
_DRY_RUN: Final = "--dryrun"


class JournalSource:
    """Kills that systemd's journal has, and the exits that verify them.

    See :class:`otel_oom.capture.source.Source`.

    Entering never fails: a host without such a daemon, or without a journal, has no such kills.
    """

    name = "journal"
    hook = "systemd-journald"
    decision_source = ""
    pinned = True
    """Messages stay in the journal while no agent runs."""

    def __init__(  # noqa: PLR0913  each is named at the call
        self,
        state_dir: Path,
        *,
        history: bool,
        want_command: bool = False,
        proc: Path = Path("/proc"),
        find_daemons: Callable[[], Sequence[str]] = installed_daemons,
        program: str = "journalctl",
    ) -> None:
        """Prepare; the position in the journal is saved in ``state_dir``.

        ``history`` is to read all of this boot the first time, ``want_command`` to keep the command
        line of a victim.
        """
        self._state_dir = state_dir
        self._history = history
        self._want_command = want_command
        self._proc = proc
        self._find_daemons = find_daemons
        self._program = program

    def __enter__(self) -> Self:
        """Start to read the journal if there is a daemon."""
        self._since_unix_ns = time.time_ns()
        self._epoll = select.epoll()
        self._boot_id = clock.boot_id()
        self._processes = ProcessLookup(self._proc)
        self._verifier = KillVerifier(self._epoll, self._processes, self._proc, CgroupMount.find())
        self._pending: deque[tuple[UserspaceKill | VictimExit, str | None]] = deque()
        self._previous_messages: dict[str, str] = {}
        self._follower: JournalFollower | None = None
        self._next_check = -math.inf
        self._follow_if_needed()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        if self._follower:
            self._follower.close()
        self._verifier.close()
        self._epoll.close()

    def fileno(self) -> int:
        """Return an epoll descriptor that is readable when there are messages or exits."""
        return self._epoll.fileno()

    def drain(self, handler: Handler) -> int:
        """Pass all pending kills and exits to ``handler``; see :meth:`Source.drain`.

        The position in the journal is saved when ``handler`` has returned.

        Raises:
            Exception: whatever ``handler`` raised.
        """
        self._follow_if_needed()
        count = self._handle_pending(handler)
        if self._follower is None:
            return count
        for entry in self._follower.read_entries():
            kill = self._build_kill(entry)
            if kill is not None:
                self._pending.append((kill, entry.cursor))
                count += self._handle_pending(handler)
        self._pending.extend((exit_, None) for exit_ in self._verifier.poll())
        return count + self._handle_pending(handler)

    def lost_events(self) -> LostEvents:
        """Return no loss: the journal keeps what was not read."""
        return LostEvents()

    def _follow_if_needed(self) -> None:
        if self._follower is not None or time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_INTERVAL_S
        units = self._find_daemons()
        if not units:
            return
        self._follower = JournalFollower(
            UNITS,
            JournalCursor(self._state_dir),
            self._epoll,
            history=self._history,
            program=self._program,
        )
        names = ", ".join(unit.removesuffix(".service") for unit in units)
        _LOG.info("Userspace OOM daemons: reading kills by %s from the journal", names)

    def _handle_pending(self, handler: Handler) -> int:
        count = 0
        while self._pending:
            event, cursor = self._pending[0]
            handler(event)
            self._pending.popleft()
            if self._follower and cursor is not None:
                self._follower.commit(cursor)
            count += 1
        return count

    def _build_kill(self, entry: JournalEntry) -> UserspaceKill | None:
        previous = self._previous_messages.get(entry.unit, "")
        parsed = parse_message(entry.unit, entry.message, previous)
        self._previous_messages[entry.unit] = entry.message
        if parsed is None or self._is_dry_run(entry):
            return None
        recovered = entry.unix_ns < self._since_unix_ns
        can_verify = not recovered and is_program_of(entry.unit, entry.executable)
        victim, path = parsed.victim, parsed.path
        if victim and not self._want_command:
            victim = replace(victim, command=None)
        if victim and can_verify:
            victim, path = self._add_process(victim)
        boottime_ns = entry.monotonic_us * NS_PER_US
        if entry.boot_id == self._boot_id:
            # The wall clock may have been set back in between.
            now_ns = clock.boottime_ns()
            boottime_ns = min(now_ns, entry.unix_ns - clock.boot_to_unix_offset_ns())
        kill = UserspaceKill(
            boot_id=entry.boot_id,
            boottime_ns=boottime_ns,
            time_unix_ns=entry.unix_ns,
            trigger=None,
            capture=Capture(self.name, self.hook, None, entry.monotonic_us, recovered=recovered),
            killer=parsed.killer,
            victim=victim,
            memcg=Memcg(None, path) if path else None,
            resident=parsed.resident,
            usage=parsed.usage,
            completed=parsed.completed,
            original=parsed.original,
        )
        return self._verifier.verify(kill) if can_verify else kill

    def _add_process(self, victim: Task) -> tuple[Task, str | None]:
        """Return a victim with what /proc still has of it, and the path of its memory cgroup."""
        process = self._processes.by_thread(victim.tgid, None) if victim.tgid else None
        if process is None or not _is_same_name(process.comm, victim.comm):
            return victim, None
        directory = ProcessDir(str(victim.tgid), self._proc)
        score_adj = victim.score_adj
        if score_adj is None:
            score_adj = directory.read_number("oom_score_adj")
        path = memory_cgroup_path(directory.read_text("cgroup") or "")
        return replace(process, tid=None, score_adj=score_adj, command=victim.command), path

    def _is_dry_run(self, entry: JournalEntry) -> bool:
        """Return true if the daemon only simulates kills; unknown for one that has ended."""
        if entry.pid is None or entry.boot_id != self._boot_id:
            return False
        return _DRY_RUN in ProcessDir(entry.pid, self._proc).read_command_line()


def _is_same_name(shown: str | None, logged: str | None) -> bool:
    """Compare two names up to a newline, which can end the logged one."""
    return (shown or "").partition("\n")[0] == (logged or "").partition("\n")[0]
