"""The kernel's own records of its kills, from which tests take their expectations."""

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

_TEXT_FIELDS = {"message", "comm"}

_REPORT = re.compile(r"oom-kill:constraint=.*,pid=(?P<pid>\d+),uid=\d+$", re.MULTILINE)


@dataclass(frozen=True)
class KilledLine:
    """A "Killed process" line of the kernel log, with its sizes in kB."""

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
    """Return the text of a record of /dev/kmsg."""
    return record.partition(";")[2]


class KernelLog:
    """The messages that the kernel logs from now on (``/dev/kmsg``, facility 0)."""

    def __init__(self, *, whole: bool = False) -> None:
        """Begin at the end of the log, or at its beginning if ``whole``."""
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_SET if whole else os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read_records(self) -> Iterator[str]:
        """Yield the records since the last call, oldest first."""
        with suppress(BlockingIOError):
            while True:
                record = os.read(self._fd, 8192).decode("utf-8", "replace")
                if int(record.split(",")[0]) >> 3 == 0:
                    yield record

    def read_messages(self) -> Iterator[str]:
        """Yield the texts of the records since the last call, oldest first."""
        return map(message_text, self.read_records())

    def read_timed_messages(self) -> Iterator[tuple[float, str]]:
        """Yield the same texts, each after its time in seconds on the log's clock."""
        records = self.read_records()
        return ((int(record.split(",")[2]) / 1e6, message_text(record)) for record in records)

    def read_reported_pids(self) -> list[int]:
        """Return the pids of whole reports since the last call: at most ten in five seconds."""
        matches = (_REPORT.search(message) for message in self.read_messages())
        return [int(match["pid"]) for match in matches if match]

    def read_killed_lines(self) -> list[KilledLine]:
        """Return the "Killed process" lines since the last call, oldest first."""
        return parse_killed_lines(self.read_messages())


_MAX_REPORTS = 10
_REPORTS_S = 5.5
"""The kernel reports ten kills in five seconds; of further ones it logs the victim only.

``oom_kill_process()`` uses ``DEFAULT_RATELIMIT_INTERVAL`` and ``_BURST``. The log's clock differs
a little from CLOCK_MONOTONIC.
"""


def wait_for_report_budget(kills: int, limit: float = 60.0) -> None:
    """Wait until the kernel will print whole reports of the next ``kills``.

    Where BPF has no hook for the kernel's decisions, they are read from these reports.

    Raises:
        TimeoutError: other programs of this host keep having processes killed.
    """
    times: list[float] = []
    with KernelLog(whole=True) as log:

        def has_budget() -> bool:
            times.extend(time for time, text in log.read_timed_messages() if _KILLED.search(text))
            recent = [time for time in times if time > monotonic() - _REPORTS_S]
            return len(recent) + kills <= _MAX_REPORTS

        wait_until(has_budget, "an end of others' kills", limit=limit)


def parse_killed_lines(messages: Iterable[str]) -> list[KilledLine]:
    """Return the "Killed process" lines among messages of the kernel log."""
    matches = (_KILLED.search(message) for message in messages)
    return [
        KilledLine(
            message=match["message"],
            comm=match["comm"],
            **{
                name: int(text)
                for name, text in match.groupdict().items()
                if name not in _TEXT_FIELDS
            },
        )
        for match in matches
        if match
    ]


def read_oom_kill_count() -> int:
    """Return the kernel's count of kills since its boot (``/proc/vmstat``)."""
    for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    raise AssertionError("this kernel does not count its OOM kills")
