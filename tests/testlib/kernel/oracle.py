"""The kernel's own account of its kills: where expectations come from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Self

from tests.testlib.wait import wait_until

_KILLED = re.compile(
    r"(?P<message>[^:]*): Killed process (?P<pid>\d+) \((?P<comm>.*)\) "
    r"total-vm:(?P<total_vm>\d+)kB, "
    r"anon-rss:(?P<anon>\d+)kB, file-rss:(?P<file>\d+)kB, shmem-rss:(?P<shmem>\d+)kB, "
    r"UID:(?P<uid>\d+) pgtables:(?P<pgtables>\d+)kB oom_score_adj:(?P<score_adj>-?\d+)"
)

_TEXT = {"message", "comm"}

_REPORT = re.compile(r"oom-kill:constraint=.*,pid=(?P<pid>\d+),uid=\d+$", re.MULTILINE)


@dataclass(frozen=True)
class KilledLine:
    """One "Killed process" line of the kernel log; sizes in kB, as it prints them."""

    message: str
    pid: int
    comm: str
    total_vm: int
    anon: int
    file: int
    shmem: int
    uid: int
    pgtables: int
    score_adj: int


def message_text(record: str) -> str:
    """What the kernel said, out of a record of its log."""
    return record.partition(";")[2]


class KernelLog:
    """What the kernel logs from now on (``/dev/kmsg``, facility 0)."""

    def __init__(self, *, whole: bool = False) -> None:
        """Remember where the log ends now; of a ``whole`` one, where it begins."""
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_SET if whole else os.SEEK_END)

    def __enter__(self) -> Self:
        """Nothing more is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        os.close(self._fd)

    def raw(self) -> Iterator[str]:
        """The records that the kernel has logged since the last call, as they are, oldest first."""
        with suppress(BlockingIOError):
            while True:
                record = os.read(self._fd, 8192).decode("utf-8", "replace")
                if int(record.split(",")[0]) >> 3 == 0:
                    yield record

    def messages(self) -> Iterator[str]:
        """What the kernel has logged since the last call, oldest first."""
        return map(message_text, self.raw())

    def records(self) -> Iterator[tuple[float, str]]:
        """The same, each with its time in seconds on the log's clock."""
        return ((int(raw.split(",")[2]) / 1e6, message_text(raw)) for raw in self.raw())

    def reported(self) -> list[int]:
        """The pids chosen by whole reports since the last call: ten in five seconds at most."""
        found = (_REPORT.search(message) for message in self.messages())
        return [int(match["pid"]) for match in found if match]

    def killed(self) -> list[KilledLine]:
        """The kills logged since the last call, oldest first."""
        return parse_killed_lines(self.messages())


_REPORTED = 10
_REPORTED_S = 5.5
"""Of so many seconds the kernel reports so many kills, and of any more the victim alone.

``DEFAULT_RATELIMIT_INTERVAL`` and ``_BURST``, by which ``oom_kill_process()`` goes. The log's clock
is not quite CLOCK_MONOTONIC.
"""


def wait_for_report_budget(kills: int, limit: float = 60.0) -> None:
    """Wait until the kernel reports the next ``kills``, whatever was killed on this host before.

    Where no hook of BPF's sees its decisions, they are had from there.

    Raises:
        TimeoutError: others go on having processes killed.
    """
    times: list[float] = []
    with KernelLog(whole=True) as log:

        def few() -> bool:
            times.extend(time for time, text in log.records() if _KILLED.search(text))
            late = [time for time in times if time > monotonic() - _REPORTED_S]
            return len(late) + kills <= _REPORTED

        wait_until(few, "an end of others' kills", limit=limit)


def parse_killed_lines(messages: Iterable[str]) -> list[KilledLine]:
    """The "Killed process" lines among messages of the kernel's log."""
    found = (_KILLED.search(message) for message in messages)
    return [
        KilledLine(
            message=match["message"],
            comm=match["comm"],
            **{name: int(text) for name, text in match.groupdict().items() if name not in _TEXT},
        )
        for match in found
        if match
    ]


def read_oom_kill_count() -> int:
    """How many kills the kernel has counted since it booted (``/proc/vmstat``)."""
    for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    raise AssertionError("this kernel does not count its OOM kills")
