"""The kernel's own account of its kills: where expectations come from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_KILLED = re.compile(
    r"(?P<message>[^:]*): Killed process (?P<pid>\d+) \((?P<comm>.*)\) "
    r"total-vm:(?P<total_vm>\d+)kB, "
    r"anon-rss:(?P<anon>\d+)kB, file-rss:(?P<file>\d+)kB, shmem-rss:(?P<shmem>\d+)kB, "
    r"UID:(?P<uid>\d+) pgtables:(?P<pgtables>\d+)kB oom_score_adj:(?P<score_adj>-?\d+)"
)

_TEXT = {"message", "comm"}


@dataclass(frozen=True)
class Killed:
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


class KernelLog:
    """What the kernel logs from now on (``/dev/kmsg``, facility 0)."""

    def __init__(self) -> None:
        """Remember where the log ends now."""
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)

    def __enter__(self) -> Self:
        """Nothing more is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        os.close(self._fd)

    def messages(self) -> Iterator[str]:
        """What the kernel has logged since the last call, oldest first."""
        with suppress(BlockingIOError):
            while True:
                record = os.read(self._fd, 8192).decode("utf-8", "replace")
                prefix, _, message = record.partition(";")
                if int(prefix.split(",")[0]) >> 3 == 0:
                    yield message

    def killed(self) -> list[Killed]:
        """The kills logged since the last call, oldest first."""
        return killed_in(self.messages())


def killed_in(messages: Iterable[str]) -> list[Killed]:
    """The "Killed process" lines among messages of the kernel's log."""
    found = (_KILLED.search(message) for message in messages)
    return [
        Killed(
            message=match["message"],
            comm=match["comm"],
            **{name: int(text) for name, text in match.groupdict().items() if name not in _TEXT},
        )
        for match in found
        if match
    ]


def oom_kill_count() -> int:
    """How many kills the kernel has counted since it booted (``/proc/vmstat``)."""
    for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    raise AssertionError("this kernel does not count its OOM kills")
