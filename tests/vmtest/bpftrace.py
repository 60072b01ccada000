"""A kprobe of bpftrace on oom_kill_process, beside our own programs."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

_PROGRAM: Final = (
    'BEGIN { printf("ready\\n"); } '
    'kprobe:oom_kill_process { printf("kill by %d %s\\n", tid, comm); }'
)
_KILL: Final = re.compile(r"^kill by (\d+) (.*)$", re.MULTILINE)
_READY_S: Final = 120.0
_PRINTED_S: Final = 30.0


class Bpftrace:
    """A running bpftrace; a guest needs half a minute to start it, most of it to load LLVM."""

    def __init__(self) -> None:
        """Start it, without waiting until it traces."""
        self._output = Path(tempfile.mkdtemp()) / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                # Protected: it must not be the victim of a scenario.
                ["choom", "-n", "-1000", "--", "bpftrace", "-B", "line", "-e", _PROGRAM],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it: it uses much of a guest's memory."""
        self._process.kill()
        self._process.wait()

    def read_kills(self) -> list[list[int | str]]:
        """Wait until it traces; return thread and name of the allocating task of each kill."""
        self._wait_for("ready", 1, _READY_S)
        return [[int(tid), comm] for tid, comm in _KILL.findall(self._text())]

    def wait_for_kills(self, skip: int) -> list[list[int | str]]:
        """Wait for a kill after the first ``skip``; return those."""
        self._wait_for("kill by", skip + 1, _PRINTED_S)
        return self.read_kills()[skip:]

    def _text(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="backslashreplace")

    def _wait_for(self, word: str, count: int, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self._text().count(word) < count:
            assert self._process.poll() is None, self._text()
            assert time.monotonic() < deadline, self._text()
            time.sleep(0.2)


@functools.cache
def start_bpftrace() -> Bpftrace:
    """Return the one that runs, started by the first call."""
    return Bpftrace()
