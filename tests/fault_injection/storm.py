"""Real kills that go on by themselves, each with the result of its waitpid(2)."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from otel_oom.linux.temporary_cgroup import Cgroup
from tests.vmtest.programs import program_path

_WITHIN_S: Final = 60.0


@dataclass(frozen=True)
class Death:
    """A killed process, by waitpid(2), with the Unix times before and after its death."""

    pid: int
    after_ns: int
    before_ns: int


class Storm:
    """Kills one process after another in a cgroup, or many at once."""

    def __init__(self) -> None:
        self._deaths: list[Death] = []
        self._mutex = threading.Lock()

    @property
    def deaths(self) -> list[Death]:
        """Return all deaths so far."""
        with self._mutex:
            return list(self._deaths)

    def add(self, death: Death) -> None:
        """Add a death that was made elsewhere."""
        with self._mutex:
            self._deaths.append(death)

    def kill(self, count: int, memcg: Cgroup) -> None:
        """Let the kernel kill ``count`` processes in ``memcg``, one after another."""
        for _ in range(count):
            began = time.time_ns()
            with subprocess.Popen([program_path("fill_cgroup"), memcg.procs]) as process:
                code = process.wait(_WITHIN_S)
            assert code == -signal.SIGKILL, f"the kernel did not kill fill_cgroup: {code}"
            self.add(Death(process.pid, began, time.time_ns()))

    @contextmanager
    def kill_continuously(self, memcg: Cgroup, every_s: float) -> Iterator[None]:
        """Make one kill after another in the context, with that time between them."""
        over = threading.Event()
        failures: list[BaseException] = []

        def kill_in_thread() -> None:
            try:
                while not over.wait(every_s):
                    self.kill(1, memcg)
            except BaseException as error:  # noqa: BLE001  raised in the waiting thread
                failures.append(error)

        thread = threading.Thread(target=kill_in_thread)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failures:
            raise failures[0]
