"""One fault, played on the real agent while the kernel kills, and what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otel_oom.linux.temporary_cgroup import Cgroup
from tests.fault_injection.backend import Backend
from tests.fault_injection.storm import Death, Storm
from tests.fault_injection.tally import Tally, judge, untold
from tests.testlib.command import clean_environ, run_otel_oom
from tests.testlib.kernel.bpffs import mount_bpffs
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.kernel.oracle import read_oom_kill_count
from tests.vmtest import programs

READY_S: Final = 60.0
DIES_S: Final = 90.0
TOLD_S: Final = 180.0
"""A courier that has met failures waits up to a minute before it tries again."""
SETTLED_S: Final = 4.0
"""Longer than the agent takes to hold what it has told against the kernel's count."""
EVERY_S: Final = 0.05
ENDS_S: Final = 30.0

_READY: Final = "Ready: capturing"


@dataclass
class Life:
    """An agent, from its start to its end."""

    process: subprocess.Popen[bytes]
    log: Path
    begins_at: int
    """Where in the log this life begins."""

    def log_text(self) -> str:
        """What it has logged so far."""
        with self.log.open("rb") as file:
            file.seek(self.begins_at)
            return file.read().decode("utf-8", "replace")

    def ready(self) -> None:
        """Wait until it captures.

        Raises:
            AssertionError: it has ended, or took too long.
        """
        wait(
            lambda: _READY in self.log_text() or self.process.poll() is not None,
            READY_S,
            self.log_text,
        )
        assert self.process.poll() is None, self.log_text()

    def says(self, words: str, within_s: float = READY_S) -> None:
        """Wait until it has logged ``words``.

        Raises:
            AssertionError: it did not.
        """
        wait(
            lambda: words in self.log_text(),
            within_s,
            lambda: f"{words!r} is not in {self.log_text()}",
        )

    def stop(self, number: signal.Signals, within_s: float = ENDS_S) -> int:
        """Send it a signal and wait; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


@dataclass
class Trial:
    """What a fault is played with: folders of the agent's own, a backend, a storm of kills."""

    folder: Path
    pin_dir: Path
    backend: Backend
    storm: Storm
    memcg: Cgroup
    state_dir: Path
    began_ns: int = field(default_factory=time.time_ns)
    counted: int = field(default_factory=read_oom_kill_count)
    crashes: int = 0
    elsewhere: bool = False
    """Whether it was another kernel that killed, whose count is of all that died there."""

    @contextmanager
    def agent(  # noqa: PLR0913  each is named at the call
        self,
        *,
        runner: Sequence[str] = (),
        prefix: Sequence[str] = (),
        history: bool = False,
        pin: bool = True,
        source: str = "libbpf",
        ready: bool = True,
        url: str = "",
    ) -> Iterator[Life]:
        """An agent that sends to the backend, yielded once it captures; killed at the end.

        ``runner`` are options of :mod:`tests.fault_injection.agent`, ``prefix``
        is what it is started by.
        """
        log = self.folder / "agent.log"
        pins = ["--pin-dir", str(self.pin_dir)] if pin else ["--no-pin"]
        options = [*pins, *([] if history else ["--no-history"]), "--source", source]
        command = [sys.executable, "-m", "tests.fault_injection.agent", *runner, "--", "run"]
        with log.open("ab") as stderr:
            begins_at = stderr.tell()
            process = subprocess.Popen(
                [*prefix, *command, "--state-dir", str(self.state_dir), *options],
                env=self._environment(url or self.backend.url),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
        life = Life(process, log, begins_at)
        try:
            if ready:
                life.ready()
            yield life
        finally:
            if life.process.poll() is None:
                life.process.kill()
                life.process.wait()

    @staticmethod
    def _environment(url: str) -> dict[str, str]:
        return {
            **clean_environ(),
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            # Short enough for a backend that hangs to be given up many times.
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_METRICS_EXPORTER": "none",
        }

    def install(self) -> None:
        """Run it once, undisturbed: what was killed on this host before is none of ours now."""
        with self.agent() as life:
            self.storm.kill(1, self.memcg)
            self.wait_until_told()
            time.sleep(SETTLED_S)
            assert life.stop(signal.SIGTERM) == 0, life.log_text()

    def crash(self, life: Life) -> None:
        """Have an agent die at once."""
        life.stop(signal.SIGKILL)
        self.crashes += 1

    def unpin(self) -> None:
        """Remove the pins: what they have recorded is gone."""
        self.command("unpin", "--pin-dir", self.pin_dir)

    @staticmethod
    def command(*words: str | os.PathLike[str]) -> None:
        """Run another command of the product to its end.

        Raises:
            AssertionError: it failed.
        """
        done = run_otel_oom(*words)
        assert done.code == 0, done

    def raging(self, every_s: float = EVERY_S) -> AbstractContextManager[None]:
        """Kills that go on as long as the context is."""
        return self.storm.going_on(self.memcg, every_s)

    def wait_until_told(
        self, within_s: float = TOLD_S, *, spans: bool = True, but: int = 0
    ) -> None:
        """Wait until the backend has a log, and a span, of all ``but`` so many of the dead.

        Raises:
            AssertionError: it has not got them in time.
        """
        deaths = self.storm.deaths

        def missing() -> tuple[list[Death], list[Death]]:
            logs = untold(deaths, self.backend.logs)
            return logs, untold(deaths, self.backend.spans) if spans else []

        def all_told() -> bool:
            return max(map(len, missing())) <= but

        def describe() -> str:
            return "no log of {}, no span of {}\n{}".format(*missing(), self.tail())

        wait(all_told, within_s, describe, every_s=0.2)

    def settle(self, *, but: int = 0, **options: object) -> None:
        """Have an agent that nothing disturbs tell the rest, and wait that nothing more comes."""
        with self.agent(**options) as life:  # type: ignore[arg-type]
            self.wait_until_told(but=but)
            time.sleep(SETTLED_S)
            assert life.stop(signal.SIGTERM) == 0, life.log_text()

    def tail(self) -> str:
        """The end of the agents' log."""
        return (self.folder / "agent.log").read_text(encoding="utf-8", errors="replace")[-8000:]

    def tally(self) -> Tally:
        """What the kernel has counted, and what the backend has of it."""
        deaths = self.storm.deaths
        return judge(
            self.backend.logs,
            self.backend.spans,
            deaths,
            counted=len(deaths) if self.elsewhere else read_oom_kill_count() - self.counted,
            since_ns=self.began_ns,
            crashes=self.crashes,
            elsewhere=self.elsewhere,
        )


@contextmanager
def trial(folder: Path, state_dir: Path | None = None) -> Iterator[Trial]:
    """All that a fault needs, in ``folder``; ended and removed at the end."""
    programs.build_programs()
    with ExitStack() as stack:
        bpffs = stack.enter_context(mount_bpffs(folder / "bpf"))
        memcg = stack.enter_context(own_memcg())
        backend = Backend()
        stack.callback(backend.close)
        yield Trial(
            folder=folder,
            pin_dir=bpffs / "otel-oom" / "v1",
            backend=backend,
            storm=Storm(),
            memcg=memcg,
            state_dir=state_dir or folder / "state",
        )


def wait(
    true: Callable[[], bool], within_s: float, what: Callable[[], str], every_s: float = 0.02
) -> None:
    """Wait until something is true.

    Raises:
        AssertionError: it did not become so; with ``what`` says.
    """
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(every_s)
