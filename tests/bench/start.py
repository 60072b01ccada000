"""The start of the agent beside that of a bare interpreter, in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.bench.measurement import Measurement
from tests.testlib.agent import run_agent

STARTS = 20
_POLL_S = 0.0005
_LINKS = frozenset({"anon_inode:bpf_link", "anon_inode:bpf-raw-tracepoint"})


def measure_start() -> Iterator[Measurement]:
    """Measure from exec to the last attached program, and to READY, in bare starts."""
    bare_s, attached_s, ready_s = [], [], []
    # The first start writes the byte code, as the installation of a wheel does.
    environ = {"PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryDirectory() as folder, run_agent(Path(folder), environ):
        pass
    for _ in range(STARTS):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare_s.append(time.monotonic() - began)
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            with run_agent(Path(folder), environ, ready=False) as agent:
                watch = _LinkWatch(agent.process.pid)
                assert agent.manager.recv(4096) == b"READY=1"
                ready_s.append(time.monotonic() - began)
                attached_s.append(watch.stop() - began)
    bare, attached, ready = map(statistics.median, (bare_s, attached_s, ready_s))
    yield Measurement("start: python -c pass, median of 20", bare * 1e3, "ms")
    yield Measurement("start: exec to attached", attached * 1e3, "ms")
    yield Measurement("start: exec to attached, in bare starts", attached / bare, "times", 3)
    yield Measurement("start: exec to READY", ready * 1e3, "ms")
    yield Measurement("start: exec to READY, in bare starts", ready / bare, "times", 8)


class _LinkWatch:
    """A thread that notes when a process got its last link of a BPF program."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}/fd")
        self._links = 0
        self._changed_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(_POLL_S):
            self._count()

    def _count(self) -> None:
        links = 0
        for descriptor in self._folder.iterdir():
            with suppress(OSError):  # closed meanwhile
                links += str(descriptor.readlink()) in _LINKS
        if links != self._links:
            self._links, self._changed_at = links, time.monotonic()

    def stop(self) -> float:
        """Return when the last link was made; READY was sent after it."""
        self._stopped.set()
        self._thread.join()
        self._count()
        return self._changed_at
