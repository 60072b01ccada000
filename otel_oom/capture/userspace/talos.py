"""Kills by the OOM controller of Talos Linux, which logs to the kernel's log as user space.

Source: ``reapCg()`` of Talos' ``controllers/runtime/oom.go`` (1.12 to 1.14). One record names the
cgroup, and the next one its processes; without a process nothing was killed. A pod cannot write to
the kernel's log, a privileged one can: a kill is a claim, until the cgroup is dead.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from msgspec import Struct

from otel_oom.capture.kmsg.reader import DEVICE, decode_text
from otel_oom.capture.source import Handler
from otel_oom.capture.userspace.messages import ParsedKill
from otel_oom.capture.userspace.processes import list_processes
from otel_oom.capture.userspace.verifier import KillVerifier
from otel_oom.linux import clock
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.events import UserspaceKill
from otel_oom.model.loss import LostEvents
from otel_oom.model.types import Capture, Memcg, TaskList, UserspaceOomDaemon
from otel_oom.model.units import NS_PER_US

TALOS: Final = "talos"
"""In place of a unit: Talos has none."""
TALOS_PREFIX: Final = "[talos] "
"""The beginning of each of its records."""
_KILL: Final = f"{TALOS_PREFIX}Sending SIGKILL to cgroup "
_PROCESSES: Final = f"{TALOS_PREFIX}victim processes: "
_CONTROLLER: Final = "runtime.OOMController"
_MOUNT: Final = "/sys/fs/cgroup"
_USER: Final = 1
"""The facility of records that a program writes (LOG_USER)."""
_RECORD_BYTES: Final = 1 << 13
_MAX_RECORDS: Final = 1 << 14


class TalosRecord(Struct, frozen=True):
    """A record of user space in the kernel's log: its number, its time and its text."""

    sequence: int
    time_us: int
    text: str


def parse_user_record(raw: bytes) -> TalosRecord | None:
    """Parse a record of /dev/kmsg; ``None`` for one of the kernel and of another facility."""
    prefix, semicolon, body = raw.partition(b";")
    try:
        level, sequence, time_us = (int(field) for field in prefix.split(b",")[:3])
    except ValueError:
        return None
    if not semicolon or level >> 3 != _USER:
        return None
    return TalosRecord(sequence, time_us, decode_text(body.partition(b"\n")[0]))


def parse_fields(text: str, beginning: str) -> dict[str, object]:
    """Return the fields of the controller's record that begins so; none for any other record."""
    if not text.startswith(beginning):
        return {}
    try:
        fields = json.loads(text[len(beginning) :])
    except (ValueError, RecursionError):
        return {}
    is_own = isinstance(fields, dict) and fields.get("controller") == _CONTROLLER
    return fields if is_own else {}


class TalosParser:
    """The cgroup of a kill whose processes follow in another record."""

    _path: str | None = None

    def find_cgroup(self, text: str) -> str | None:
        """Return the cgroup of the kill that a record announces; ``None`` for other records."""
        path = parse_fields(text, _KILL).get("cgroup")
        if not isinstance(path, str) or not path.startswith(f"{_MOUNT}/"):
            return None
        self._path = path.removeprefix(_MOUNT)
        return self._path

    def feed(self, text: str) -> ParsedKill | None:
        """Take a record; return the kill if it has the processes of one."""
        if self.find_cgroup(text) or self._path is None:
            return None
        if not parse_fields(text, _PROCESSES).get("processes"):
            return None
        path, self._path = self._path, None
        killer = UserspaceOomDaemon("talos", signal="SIGKILL", reason="memory_pressure")
        return ParsedKill(killer, original=text, path=path)


class TalosSource:
    """The controller's kills of this boot; see :class:`otel_oom.capture.source.Source`.

    Entering never fails: without the kernel's log there are no such kills.
    """

    name = "kmsg"
    hook = "/dev/kmsg"
    decision_source = ""
    pinned = False

    def __init__(self, device: Path = DEVICE, proc: Path = Path("/proc")) -> None:
        """Prepare; the log is opened when the context is entered."""
        self._device = device
        self._proc = proc

    def __enter__(self) -> Self:
        """Open the log at its beginning."""
        self._since_ns = time.monotonic_ns()
        self._epoll = select.epoll()
        self._boot_id = clock.boot_id()
        self._processes = ProcessLookup(self._proc)
        self._cgroups = CgroupMount.find()
        self._verifier = KillVerifier(self._epoll, self._processes, self._proc, self._cgroups)
        self._parser = TalosParser()
        self._tasks: TaskList | None = None
        self._pending: deque[UserspaceKill] = deque()
        self._fd: int | None = None
        with suppress(OSError):
            self._fd = os.open(self._device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._epoll.register(self._fd, select.EPOLLIN)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        self._verifier.close()
        self._epoll.close()
        if self._fd is not None:
            os.close(self._fd)

    def fileno(self) -> int:
        """Return an epoll descriptor that is readable when the log has more."""
        return self._epoll.fileno()

    def drain(self, handler: Handler) -> int:
        """Pass all pending kills to ``handler``; see :meth:`Source.drain`.

        Raises:
            Exception: whatever ``handler`` raised.
        """
        count = 0
        for _ in range(_MAX_RECORDS):
            while self._pending:
                handler(self._pending[0])
                self._pending.popleft()
                count += 1
            raw = self._read_record()
            if raw is None:
                break
            record = parse_user_record(raw)
            if record and (kill := self._feed(record)):
                self._pending.append(kill)
        return count

    def lost_events(self) -> LostEvents:
        """Return no loss: overwritten records are counted with those of the kernel."""
        return LostEvents()

    def _read_record(self) -> bytes | None:
        while self._fd is not None:
            try:
                return os.read(self._fd, _RECORD_BYTES)
            except BrokenPipeError:
                continue  # The oldest were overwritten: the next is there.
            except OSError:
                return None
        return None

    def _feed(self, record: TalosRecord) -> UserspaceKill | None:
        """Return the kill that a record completes."""
        if path := self._parser.find_cgroup(record.text):
            is_live = record.time_us * NS_PER_US > self._since_ns
            self._tasks = self._list_processes(path) if is_live else None
            return None
        parsed = self._parser.feed(record.text)
        return self._build_kill(record, parsed) if parsed else None

    def _list_processes(self, path: str) -> TaskList | None:
        if self._cgroups is None or not self._processes.usable:
            return None
        return list_processes(self._cgroups, path, self._proc)

    def _build_kill(self, record: TalosRecord, parsed: ParsedKill) -> UserspaceKill:
        # The log's clock stops in suspend; its time is at most now.
        age_ns = max(0, time.monotonic_ns() - record.time_us * NS_PER_US)
        boottime_ns = clock.boottime_ns() - age_ns
        recovered = record.time_us * NS_PER_US < self._since_ns
        kill = UserspaceKill(
            boot_id=self._boot_id,
            boottime_ns=boottime_ns,
            time_unix_ns=boottime_ns + clock.boot_to_unix_offset_ns(),
            trigger=None,
            capture=Capture(self.name, self.hook, None, record.sequence, recovered=recovered),
            killer=parsed.killer,
            victim=None,
            memcg=Memcg(None, parsed.path) if parsed.path else None,
            tasks=self._tasks,
            completed=parsed.completed,
            original=parsed.original,
        )
        return kill if recovered else self._verifier.verify(kill)
