"""One fault, injected into the real agent while the kernel kills, and its result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from otel_oom.linux.temporary_cgroup import Cgroup
from tests.fault_injection.backend import FaultyBackend
from tests.fault_injection.storm import Death, Storm
from tests.fault_injection.tally import Tally, compute_tally, find_missing
from tests.testlib.command import clean_environ, run_otel_oom
from tests.testlib.kernel.bpffs import mount_bpffs
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.kernel.oracle import read_oom_kill_count
from tests.vmtest import programs

READY_S: Final = 60.0
KILLED_S: Final = 90.0
DELIVERED_S: Final = 180.0
"""After failures an exporter waits up to a minute before it retries."""
SETTLED_S: Final = 4.0
"""Longer than the agent needs to reconcile its kills with the kernel's count."""
KILL_INTERVAL_S: Final = 0.05
EXIT_S: Final = 30.0

_READY: Final = "Ready: capturing"


@dataclass
class RunningAgent:
    """An agent, from its start to its end."""

    process: subprocess.Popen[bytes]
    log: Path
    log_offset: int
    """The start of its own part of the log."""

    def log_text(self) -> str:
        """Return its log so far."""
        with self.log.open("rb") as file:
            file.seek(self.log_offset)
            return file.read().decode("utf-8", "replace")

    def wait_until_ready(self) -> None:
        """Wait until it captures.

        Raises:
            AssertionError: it has ended, or took too long.
        """
        wait_until(
            lambda: _READY in self.log_text() or self.process.poll() is not None,
            READY_S,
            self.log_text,
        )
        assert self.process.poll() is None, self.log_text()

    def wait_for_log(self, words: str, within_s: float = READY_S) -> None:
        """Wait until its log has ``words``.

        Raises:
            AssertionError: they did not come in time.
        """
        wait_until(
            lambda: words in self.log_text(),
            within_s,
            lambda: f"{words!r} is not in {self.log_text()}",
        )

    def stop(self, number: signal.Signals, within_s: float = EXIT_S) -> int:
        """Send a signal to it, wait for its end, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


@dataclass
class Trial:
    """The environment of a fault: folders of its own, a backend, a storm of kills."""

    folder: Path
    pin_dir: Path
    backend: FaultyBackend
    storm: Storm
    memcg: Cgroup
    state_dir: Path
    began_ns: int = field(default_factory=time.time_ns)
    counted: int = field(default_factory=read_oom_kill_count)
    crashes: int = 0
    other_kernel: bool = False
    """True if another kernel killed: its count is the number of deaths."""

    @contextmanager
    def run_agent(  # noqa: PLR0913  each is named at the call
        self,
        *,
        runner: Sequence[str] = (),
        prefix: Sequence[str] = (),
        history: bool = False,
        pin: bool = True,
        source: str = "libbpf",
        ready: bool = True,
        url: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> Iterator[RunningAgent]:
        """Run an agent that sends to the backend, yield it once it captures.

        ``runner`` are options of :mod:`tests.fault_injection.agent`.
        """
        log = self.folder / "agent.log"
        pins = ["--pin-dir", str(self.pin_dir)] if pin else ["--no-pin"]
        options = [*pins, *([] if history else ["--no-history"]), "--source", source]
        command = [sys.executable, "-m", "tests.fault_injection.agent", *runner, "--", "run"]
        with log.open("ab") as stderr:
            offset = stderr.tell()
            process = subprocess.Popen(
                [*prefix, *command, "--state-dir", str(self.state_dir), *options],
                env={**self._environment(url or self.backend.url), **(environ or {})},
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )
        agent = RunningAgent(process, log, offset)
        try:
            if ready:
                agent.wait_until_ready()
            yield agent
        finally:
            if agent.process.poll() is None:
                agent.process.kill()
                agent.process.wait()

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
        """Run an agent once without a fault: earlier kills of this host do not count any more."""
        with self.run_agent() as agent:
            self.storm.kill(1, self.memcg)
            self.wait_until_delivered()
            time.sleep(SETTLED_S)
            assert agent.stop(signal.SIGTERM) == 0, agent.log_text()

    def crash(self, agent: RunningAgent) -> None:
        """Kill an agent by SIGKILL."""
        agent.stop(signal.SIGKILL)
        self.crashes += 1

    def unpin(self) -> None:
        """Remove the pins with all their records."""
        self.run_command("unpin", "--pin-dir", self.pin_dir)

    @staticmethod
    def run_command(*words: str | os.PathLike[str]) -> None:
        """Run another command of the product to its end.

        Raises:
            AssertionError: it failed.
        """
        done = run_otel_oom(*words)
        assert done.code == 0, done

    def kill_continuously(self, every_s: float = KILL_INTERVAL_S) -> AbstractContextManager[None]:
        """Make kills as long as the context lasts."""
        return self.storm.kill_continuously(self.memcg, every_s)

    def wait_until_delivered(
        self, within_s: float = DELIVERED_S, *, spans: bool = True, missing: int = 0
    ) -> None:
        """Wait until the backend has log and span of all deaths, except ``missing`` of them.

        Raises:
            AssertionError: they did not arrive in time.
        """
        deaths = self.storm.deaths

        def find_all_missing() -> tuple[list[Death], list[Death]]:
            logs = find_missing(deaths, self.backend.logs)
            return logs, find_missing(deaths, self.backend.spans) if spans else []

        def is_delivered() -> bool:
            return max(map(len, find_all_missing())) <= missing

        def describe() -> str:
            return "no log of {}, no span of {}\n{}".format(*find_all_missing(), self.log_tail())

        wait_until(is_delivered, within_s, describe, every_s=0.2)

    def deliver_rest(self, *, missing: int = 0, **options: object) -> None:
        """Let an undisturbed agent deliver the rest, and wait until nothing more comes."""
        with self.run_agent(**options) as agent:  # type: ignore[arg-type]
            self.wait_until_delivered(missing=missing)
            time.sleep(SETTLED_S)
            assert agent.stop(signal.SIGTERM) == 0, agent.log_text()

    def log_tail(self) -> str:
        """Return the end of the agents' log."""
        return (self.folder / "agent.log").read_text(encoding="utf-8", errors="replace")[-8000:]

    def tally(self) -> Tally:
        """Compare the kernel's count with what the backend has received."""
        deaths = self.storm.deaths
        return compute_tally(
            self.backend.logs,
            self.backend.spans,
            deaths,
            counted=len(deaths) if self.other_kernel else read_oom_kill_count() - self.counted,
            since_ns=self.began_ns,
            crashes=self.crashes,
            other_kernel=self.other_kernel,
        )


@contextmanager
def run_trial(folder: Path, state_dir: Path | None = None) -> Iterator[Trial]:
    """Make the environment of a fault in ``folder``, and remove it at the end."""
    programs.build_programs()
    with ExitStack() as stack:
        bpffs = stack.enter_context(mount_bpffs(folder / "bpf"))
        memcg = stack.enter_context(own_memcg())
        backend = FaultyBackend()
        stack.callback(backend.close)
        yield Trial(
            folder=folder,
            pin_dir=bpffs / "otel-oom" / "v1",
            backend=backend,
            storm=Storm(),
            memcg=memcg,
            state_dir=state_dir or folder / "state",
        )


def wait_until(
    condition: Callable[[], bool],
    within_s: float,
    describe: Callable[[], str],
    every_s: float = 0.02,
) -> None:
    """Wait until a condition is true.

    Raises:
        AssertionError: it did not become true in time; has the text of ``describe``.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, describe()
        time.sleep(every_s)
