"""Real kills that go on by themselves, each written down as the kernel's own word on it."""

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
    """A process that was killed, as waitpid(2) told it, and the Unix times that lie around it."""

    pid: int
    after_ns: int
    before_ns: int


class Storm:
    """Kills one process after another in a cgroup of its own, or many at once."""

    def __init__(self) -> None:
        """Nobody is dead yet."""
        self._deaths: list[Death] = []
        self._mutex = threading.Lock()

    @property
    def deaths(self) -> list[Death]:
        """All until now."""
        with self._mutex:
            return list(self._deaths)

    def add(self, death: Death) -> None:
        """Count one that was killed elsewhere."""
        with self._mutex:
            self._deaths.append(death)

    def kill(self, count: int, memcg: Cgroup) -> None:
        """Have the kernel kill ``count`` processes in ``memcg``, one after another."""
        for _ in range(count):
            began = time.time_ns()
            with subprocess.Popen([program_path("fill_cgroup"), memcg.procs]) as process:
                code = process.wait(_WITHIN_S)
            assert code == -signal.SIGKILL, f"the kernel did not kill fill_cgroup: {code}"
            self.add(Death(process.pid, began, time.time_ns()))

    @contextmanager
    def going_on(self, memcg: Cgroup, every_s: float) -> Iterator[None]:
        """One kill after another as long as the context is, with so much time between them."""
        over = threading.Event()
        failures: list[BaseException] = []

        def rage() -> None:
            try:
                while not over.wait(every_s):
                    self.kill(1, memcg)
            except BaseException as error:  # noqa: BLE001  raised by who waits for us
                failures.append(error)

        thread = threading.Thread(target=rage)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failures:
            raise failures[0]
