"""The classic recipe, beside us: bpftrace with a kprobe on oom_kill_process."""

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
_TOLD_S: Final = 30.0


class Recipe:
    """A running bpftrace; starting it takes a guest half a minute, most of it in loading LLVM."""

    def __init__(self) -> None:
        """Start it, with no wait until it is there."""
        self._said = Path(tempfile.mkdtemp()) / "said"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                # Spared: it is no victim of any scenario.
                ["choom", "-n", "-1000", "--", "bpftrace", "-B", "line", "-e", _PROGRAM],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        """Nothing more is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it: what it holds is much of a guest's memory."""
        self._process.kill()
        self._process.wait()

    def kills(self) -> list[list[int | str]]:
        """Thread and name of each who asked, by what it has printed; waits until it traces."""
        self._until("ready", 1, _READY_S)
        return [[int(tid), comm] for tid, comm in _KILL.findall(self._text())]

    def after(self, before: int) -> list[list[int | str]]:
        """The kills behind the first so many, when there is one."""
        self._until("kill by", before + 1, _TOLD_S)
        return self.kills()[before:]

    def _text(self) -> str:
        return self._said.read_text(encoding="utf-8", errors="backslashreplace")

    def _until(self, word: str, count: int, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self._text().count(word) < count:
            assert self._process.poll() is None, self._text()
            assert time.monotonic() < deadline, self._text()
            time.sleep(0.2)


@functools.cache
def recipe() -> Recipe:
    """The one that runs."""
    return Recipe()
