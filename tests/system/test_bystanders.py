"""Real kills, whose victims' memory the agent does not refer to: their parents live on."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import Agent, run_agent
from tests.testlib.kernel.kills import kill_many
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.require import require_programs
from tests.testlib.servers.backend import Backend, filter_kills
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

_SHELLS: Final = 3
_KILLS: Final = 400
_LIMIT: Final = 16 << 20
_LOOP: Final = f"""
echo $$ > "$1"
i=0
while [ $i -lt {_KILLS} ]; do
    tail /dev/zero
    i=$((i + 1))
    sleep 0.02
done
"""

_TRACED_KILLS: Final = 15
"""In 5 s the kernel prints the report of 10 of them."""
_CALL: Final = re.compile(r'^([0-9]+) +[a-z]+\(.*?"/proc/([0-9]+)/([a-z_]+)"(.*)')
_RESUMED: Final = re.compile(r"^([0-9]+) +<\.\.\. .*\)( += .*)")
_IS_GONE: Final = re.compile(r"= -1 (ENOENT|ESRCH)")
_MEMORY_FILES: Final = {"stat", "status", "environ", "cmdline", "maps", "smaps"}


@contextmanager
def trace_opens(agent: Agent, trace: Path) -> Iterator[None]:
    """Write the files that the agent opens, and the links that it reads, to ``trace``.

    It ends with the agent.
    """
    traced = "trace=openat,readlink,readlinkat"
    command: list[str | Path] = [
        "strace",
        "-f",
        "-e",
        traced,
        "-o",
        trace,
        "-p",
        str(agent.process.pid),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr
        assert "attached" in tracer.stderr.readline()
        try:
            yield
        finally:
            # A tracer that detaches from a process which makes a thread can hang.
            agent.stop(signal.SIGKILL)


def read_calls(trace: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield the process of each file in /proc, its name, and whether it was there, in order."""
    unfinished: dict[str, tuple[int, str]] = {}
    for line in trace.read_text(encoding="ascii").splitlines():
        if call := _CALL.match(line):
            thread, pid, name, result = call.groups()
            if result.endswith("<unfinished ...>"):
                unfinished[thread] = int(pid), name
            else:
                yield int(pid), name, not _IS_GONE.search(result)
        elif (resumed := _RESUMED.match(line)) and resumed[1] in unfinished:
            yield *unfinished.pop(resumed[1]), not _IS_GONE.search(resumed[2])


@pytest.mark.parametrize("source", ["auto", "kmsg"])
def test_no_file_is_opened_that_refers_to_the_memory_of_a_victim(
    tmp_path: Path, source: str
) -> None:
    """Each read of one costs a parent its life in one of 2,000 kills: too seldom for a test.

    Once a process has no memory, it has no link to its program: then all its files are harmless.
    """
    require_programs("strace")
    backend, trace = Backend(), tmp_path / "trace"
    with (
        Receiver(backend) as receiver,
        run_agent(
            tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, "--source", source
        ) as agent,
        trace_opens(agent, trace),
    ):
        # It looks for large processes, and again 10 s later.
        wait_until(lambda: "/proc/1/statm" in trace.read_text("ascii"), "its first scan", limit=60)
        time.sleep(0.5)
        pids = kill_many(_TRACED_KILLS)
        wait_until(lambda: len(filter_kills(backend.logs, pids)) == len(pids), "logs", limit=60)
    calls = [call for call in read_calls(trace) if call[0] in pids]
    gone: set[int] = set()
    opened: list[tuple[int, str]] = []
    for pid, name, is_there in calls:
        if not is_there and name == "exe":
            gone.add(pid)
        elif name in _MEMORY_FILES and pid not in gone:
            # If only because it was slow, it was not there any more.
            opened.append((pid, name))
    assert {pid for pid, name, _ in calls if name == "cgroup"} == {*pids}
    assert not opened


def test_the_parent_of_victims_is_not_killed_because_they_are_watched(tmp_path: Path) -> None:
    """A parent allocates at the limit as soon as its child has exited.

    If something else still refers to the child's memory, it is charged, and the parent is killed.
    Without an agent, none of 9,000 such kills cost a parent its life. Where the agent read the
    memory of victims, one of 150 to 1,500 did.
    """
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, history=True),
        ExitStack() as entered,
    ):
        memcgs = [entered.enter_context(own_memcg(_LIMIT)) for _ in range(_SHELLS)]
        shells = [
            subprocess.Popen(
                ["sh", "-c", _LOOP, "sh", memcg.procs],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for memcg in memcgs
        ]
        ends = [shell.wait() for shell in shells]
    assert ends == [0] * _SHELLS
