"""Kills by user space as a source of events, beside the one that tells of the kernel's."""

from __future__ import annotations

import logging
import math
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from msgspec.structs import replace

from otel_oom.capture.source import Handler
from otel_oom.capture.userspace.daemons import UNITS, installed_daemons
from otel_oom.linux import clock
from otel_oom.linux.process import ProcessDir, memory_cgroup_path
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import LostEvents, UserspaceKill
from otel_oom.model.types import Capture, Memcg, Task
from otel_oom.model.units import NS_PER_US

if TYPE_CHECKING:
    from otel_oom.linux.systemd.journal_entry import JournalEntry
    from otel_oom.linux.systemd.journal_follower import JournalFollower

_LOG = logging.getLogger(__name__)

_LOOK_S: Final = 60.0
"""How often a host without any killer is looked at for one."""
_PRETENDS: Final = "--dryrun"


class JournalSource:
    """Kills that systemd's journal has; see :class:`otel_oom.capture.source.Source`.

    It is never refused: on a host without such programs, or without a journal, there are none.
    """

    name = "journal"
    hook = "systemd-journald"
    decision_source = ""
    pinned = True
    """What is said while no agent runs stays in the journal."""

    def __init__(
        self,
        state_dir: Path,
        *,
        history: bool,
        proc: Path = Path("/proc"),
        look: Callable[[], Sequence[str]] = installed_daemons,
        program: str = "journalctl",
    ) -> None:
        """Keep how far it was read in ``state_dir``; ``history``: the first time, all this boot."""
        self._state_dir = state_dir
        self._history = history
        self._proc = proc
        self._look = look
        self._program = program

    def __enter__(self) -> Self:
        """See which killers there are, and begin to read what they say, if there are any."""
        self._since_unix_ns = time.time_ns()
        self._epoll = select.epoll()
        self._boot_id = clock.boot_id()
        self._processes = ProcessLookup(self._proc)
        self._waiting: deque[tuple[UserspaceKill, str]] = deque()
        self._said: dict[str, str] = {}
        self._follower: JournalFollower | None = None
        self._look_at = -math.inf
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        """End what reads."""
        if self._follower:
            self._follower.close()
        self._epoll.close()

    def fileno(self) -> int:
        """An epoll descriptor that is readable when something was said."""
        return self._epoll.fileno()

    def drain(self, handler: Handler) -> int:
        """Hand over all kills that wait; see :meth:`Source.drain`.

        How far the journal was read is kept when ``handler`` has returned.

        Raises:
            Exception: whatever ``handler`` raised.
        """
        self._begin()
        taken = self._hand_over(handler)
        if self._follower is None:
            return taken
        for entry in self._follower.read_entries():
            kill = self._kill(entry)
            if kill is not None:
                self._waiting.append((kill, entry.cursor))
                taken += self._hand_over(handler)
        return taken

    def lost_events(self) -> LostEvents:
        """Nothing that is known of: the journal keeps what nobody reads."""
        return LostEvents()

    def _begin(self) -> None:
        """Start to read as soon as there is somebody who kills."""
        if self._follower is not None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_S
        units = self._look()
        if not units:
            return
        # Only a host with such a program needs the rest.
        from otel_oom.linux.systemd.journal_cursor import JournalCursor  # noqa: PLC0415
        from otel_oom.linux.systemd.journal_follower import JournalFollower  # noqa: PLC0415

        self._follower = JournalFollower(
            UNITS,
            JournalCursor(self._state_dir),
            self._epoll,
            history=self._history,
            program=self._program,
        )
        names = ", ".join(unit.removesuffix(".service") for unit in units)
        _LOG.info("This host has %s: their kills are taken from systemd's journal", names)

    def _hand_over(self, handler: Handler) -> int:
        taken = 0
        while self._waiting:
            kill, cursor = self._waiting[0]
            handler(kill)
            self._waiting.popleft()
            if self._follower:
                self._follower.commit(cursor)
            taken += 1
        return taken

    def _kill(self, entry: JournalEntry) -> UserspaceKill | None:
        from otel_oom.capture.userspace.messages import parse_message  # noqa: PLC0415  loaded with the first entry

        told = parse_message(entry.unit, entry.message, self._said.get(entry.unit, ""))
        self._said[entry.unit] = entry.message
        if told is None or self._pretends(entry):
            return None
        late = entry.unix_ns < self._since_unix_ns
        victim, path = told.victim, told.path
        if victim and not late:
            victim, path = self._seen(victim)
        boottime_ns = entry.monotonic_us * NS_PER_US
        if entry.boot_id == self._boot_id:
            boottime_ns = entry.unix_ns - clock.boot_to_unix_offset_ns()
        return UserspaceKill(
            boot_id=entry.boot_id,
            boottime_ns=boottime_ns,
            time_unix_ns=entry.unix_ns,
            trigger=None,
            capture=Capture(self.name, self.hook, None, entry.monotonic_us, recovered=late),
            killer=told.killer,
            victim=victim,
            memcg=Memcg(None, path) if path else None,
            resident=told.resident,
            usage=told.usage,
            completed=told.done,
            original=entry.message,
        )

    def _seen(self, told: Task) -> tuple[Task, str | None]:
        """A victim with what /proc still tells of it, and its memory cgroup."""
        found = self._processes.by_thread(told.tgid, told.comm) if told.tgid else None
        if found is None:
            return told, None
        process = ProcessDir(str(told.tgid), self._proc)
        score_adj = told.score_adj
        if score_adj is None:
            score_adj = process.read_number("oom_score_adj")
        memcg_path = memory_cgroup_path(process.read_text("cgroup") or "")
        return replace(found, tid=None, score_adj=score_adj), memcg_path

    def _pretends(self, entry: JournalEntry) -> bool:
        """Whether who says it was told only to say it; of one that has ended nobody knows."""
        if entry.pid is None or entry.boot_id != self._boot_id:
            return False
        return _PRETENDS in ProcessDir(entry.pid, self._proc).read_command_line()
