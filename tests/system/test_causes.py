"""The cause of real kills at the limit of a cgroup, with its evidence: see docs/causes.md."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux.temporary_cgroup import Cgroup
from otel_oom.model.units import MIB
from tests.testlib.agent import run_agent
from tests.testlib.evidence import check_evidence
from tests.testlib.kernel.kills import kill_in, wait_until_killed
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.servers.backend import Backend, filter_kills

pytestmark = pytest.mark.usefixtures("real_kills")

LIMIT = 64 * MIB

_HOLD = """
import os, sys
procs, count, size = sys.argv[1], *map(int, sys.argv[2:])
open(procs, "w").write("0")
read, write = os.pipe()
for _ in range(count):
    if not os.fork():
        held = b"x" * size
        os.write(write, b"x")
        os.read(0, 1)
        os._exit(0)
for _ in range(count):
    os.read(read, 1)
print(flush=True)
os.read(0, 1)
"""


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Return the backend of an agent."""
    backend = Backend()
    folder = tmp_path_factory.mktemp("agent")
    with Receiver(backend) as receiver:
        # The growth of a cgroup that is sampled in time would decide.
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_OOM_USAGE_INTERVAL": "off",
        }
        with run_agent(folder, environ):
            yield backend


@contextmanager
def holders(memcg: Cgroup, count: int, mib: int) -> Iterator[list[int]]:
    """Run processes in the cgroup that hold memory each; yield their pids."""
    words = [str(memcg.procs), str(count), str(mib * MIB)]
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _HOLD, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            yield [int(pid) for pid in children.read_text(encoding="ascii").split()]
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def attributes_of(backend: Backend, pid: int) -> dict[str, Any]:
    """Return the attributes of a victim, whose evidence they have."""
    backend.wait_for_kills([pid], within_s=20)
    (log,) = filter_kills(backend.logs, [pid])
    check_evidence(log.attributes)
    return log.attributes


def test_files_in_memory_are_unreclaimable(backend: Backend) -> None:
    """They stay when their writer ends."""
    path = Path("/dev/shm", f"otel-oom-test-{os.getpid()}")  # noqa: S108  the kernel's tmpfs
    write = f'echo $$ > "$0" && exec dd if=/dev/zero of={path} bs=1M count=40 status=none'
    try:
        with own_memcg(LIMIT) as memcg:
            subprocess.run(["/bin/sh", "-c", write, memcg.procs], check=True)
            attributes = attributes_of(backend, kill_in(memcg))
    finally:
        path.unlink()
    assert attributes["oom.cause"] == "unreclaimable_memory"
    evidence = check_evidence(attributes)
    # Without a hook for decisions, the limit is known to be that of the victim's full cgroup.
    prefix = "oom.limit" if "oom.limit.memcg.path" in attributes else "oom.victim"
    assert int(evidence[f"{prefix}.memcg.stat.shmem"]) == pytest.approx(40 * MIB, abs=MIB)
    assert evidence[f"{prefix}.memcg.limit"] == str(LIMIT)


def test_a_larger_process_was_spared(backend: Backend) -> None:
    """By the victim's own oom_score_adj, which no right is needed to raise."""
    fill = 'echo $$ > "$0" && echo 1000 > /proc/$$/oom_score_adj && exec tail /dev/zero'
    with own_memcg(LIMIT) as memcg, holders(memcg, 1, 40) as (spared,):
        with subprocess.Popen(["/bin/sh", "-c", fill, memcg.procs]) as process:
            wait_until_killed(process)
        attributes = attributes_of(backend, process.pid)
    assert attributes["oom.cause"] == "spared_process"
    evidence = check_evidence(attributes)
    assert evidence["oom.victim.score_adj"] == "1000"
    assert evidence["oom.tasks.largest"].startswith(f"pid={spared} ")
    assert evidence["oom.tasks.largest"].endswith(" score_adj=0")


def test_a_neighbour_below_the_same_limit_used_more(backend: Backend) -> None:
    """Each of its processes is smaller than the victim."""
    with own_memcg(LIMIT) as pod, ExitStack() as stack:
        pod.delegate_memory()
        app, sidecar = (stack.enter_context(pod.child(name)) for name in ("app", "sidecar"))
        stack.enter_context(holders(sidecar, 4, 10))
        attributes = attributes_of(backend, kill_in(app))
    if "oom.limit.memcg.path" not in attributes:
        # The kernel prints ten reports in five seconds, and not every kernel has a hook.
        assert attributes["oom.cause"] == "unknown"
        return
    assert attributes["oom.cause"] == "contention"
    assert check_evidence(attributes)["oom.limit.scope"] == "ancestor"


def test_many_processes_of_which_none_is_large(backend: Backend) -> None:
    with own_memcg(LIMIT) as memcg, holders(memcg, 12, 4):
        attributes = attributes_of(backend, kill_in(memcg))
    assert attributes["oom.cause"] == "contention"
    assert int(check_evidence(attributes)["oom.tasks.count"]) >= 13


def test_one_process_used_most_of_the_limit(backend: Backend) -> None:
    """Without samples of its usage, no more is known."""
    with own_memcg(LIMIT) as memcg:
        attributes = attributes_of(backend, kill_in(memcg))
    assert attributes["oom.cause"] == "single_process"
    assert int(check_evidence(attributes)["oom.victim.memory.resident"]) > LIMIT // 2
