"""The cause of real kills, compared with the kernel's own files and log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.temporary_cgroup import Cgroup
from otel_oom.model import types
from otel_oom.snapshot import ProcessScanner
from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import kill_in
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.samples.events import KILL
from tests.testlib.servers.backend import Backend, filter_kills

pytestmark = pytest.mark.usefixtures("real_kills")

KB = 1024
MIB = 1 << 20

_LINE = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


@contextmanager
def neighbour(procs: Path, mib: int) -> Iterator[int]:
    """Run a process in the cgroup that holds less than the later victim; yield its pid."""
    program = (
        "import sys\nopen(sys.argv[1], 'w').write('0')\n"
        f"held = b'x' * ({mib} << 20)\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program, procs], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@contextmanager
def nested_memcgs(limit: int) -> Iterator[tuple[Cgroup, Cgroup, Cgroup]]:
    """Make a cgroup with a limit, and two children without."""
    with own_memcg(limit) as pod:
        pod.delegate_memory()
        with pod.child("app") as app, pod.child("sidecar") as sidecar:
            yield pod, app, sidecar


def parse_logfmt(attributes: dict[str, Any]) -> dict[int, dict[str, str]]:
    """Return the lines of the attribute by their pids."""
    lines = attributes["oom.tasks.largest"]
    return {int(fields["pid"]): fields for fields in (dict(_LINE.findall(line)) for line in lines)}


def read_status(pid: int, field: str) -> int:
    """Return a size of /proc/PID/status in bytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(re.findall(rf"(?m)^{field}:\s+(\d+) kB$", text)[0]) * KB


def test_a_kill_has_the_tasks_and_statistics_of_its_cgroup(tmp_path: Path) -> None:
    """The neighbour as its own files show it, the victim as it was marked.

    No other process of the host is there, nor one without memory. Memory and count of kills of the
    cgroup and the settings are those of the kernel's files.
    """
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}),
        own_memcg(64 * MIB) as memcg,
        neighbour(memcg.procs, 24) as other,
    ):
        resident, tables = read_status(other, "VmRSS"), read_status(other, "VmPTE")
        pid = kill_in(memcg)
        backend.wait_for_kills([pid], within_s=20)
        events = {
            file.name: file.read_text(encoding="ascii")
            for name in ("memory.oom_control", "memory.events")
            if (file := memcg.folder / name).exists()
        }
    (log,) = filter_kills(backend.logs, [pid])
    (span,) = filter_kills(backend.spans, [pid])
    attributes = log.attributes
    # Only the log has the kernel's own report.
    shared = {name: value for name, value in attributes.items() if name != "log.record.original"}
    assert shared.items() <= span.attributes.items()

    tasks = parse_logfmt(attributes)
    assert set(tasks) == {pid, other}
    assert abs(int(tasks[other]["resident"]) - resident) < MIB
    pages = (int(tasks[other]["resident"]) + tables) // 4096
    assert int(tasks[other]["points"]) == pages
    assert (
        tasks[other]["memcg"]
        == attributes["oom.victim.memcg.path"]
        == attributes["oom.tasks.memcg.path"]
    )
    assert tasks[pid]["killed"] == "true"
    victim_resident = sum(
        attributes[f"oom.victim.memory.{kind}"] for kind in ("anon", "file", "shmem")
    )
    assert int(tasks[pid]["resident"]) == victim_resident
    assert "killed" not in tasks[other]
    # Within a limit of 64 MiB, the victim has more than the neighbour's 24.
    assert attributes["oom.largest_task.pid"] == pid
    assert attributes["oom.largest_task.comm"] == attributes["oom.victim.comm"]
    assert attributes["oom.largest_task.memory.resident"] == victim_resident
    assert any(
        frame.startswith("oom_kill_process+") for frame in attributes["oom.request.kernel_stack"]
    )
    # The table in the kernel log is from before the mark; our own scan comes last.
    assert attributes["oom.snapshot.delay"] >= 0
    delay = attributes["oom.tasks.delay"]
    assert delay < 0 or delay >= attributes["oom.snapshot.delay"]

    # Without a hook for decisions, the limit's cgroup may be unknown.
    prefix = "oom.limit" if "oom.limit.memcg.path" in attributes else "oom.victim"
    # The neighbour's memory is still charged; the victim's may be freed.
    assert 24 * MIB <= attributes[f"{prefix}.memcg.stat.anon"] <= 64 * MIB
    (killed,) = {
        int(count)
        for text in events.values()
        for count in re.findall(r"(?m)^oom_kill (\d+)$", text)
    }
    assert attributes[f"{prefix}.memcg.events.oom_kill"] == killed == 1
    assert attributes.get(f"{prefix}.memcg.events.max", 1) > 0

    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    total = int(re.findall(r"MemTotal:\s+(\d+) kB", meminfo)[0]) * KB
    assert attributes["oom.host.memory.total"] == total
    assert 0 < attributes["oom.host.memory.available"] < total
    for name in ("panic_on_oom", "oom_kill_allocating_task", "overcommit_memory", "swappiness"):
        file = Path("/proc/sys/vm", name)
        assert attributes[f"oom.host.sysctl.vm.{name}"] == int(file.read_text(encoding="ascii"))


def test_tasks_below_the_limits_cgroup_have_their_own_cgroup(tmp_path: Path) -> None:
    """Where the limit's cgroup is unknown, only tasks of the victim's own cgroup are there."""
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}),
        nested_memcgs(64 * MIB) as (pod, app, sidecar),
        neighbour(sidecar.procs, 24) as other,
    ):
        pid = kill_in(app)
        backend.wait_for_kills([pid], within_s=20)
    (log,) = filter_kills(backend.logs, [pid])
    tasks = parse_logfmt(log.attributes)
    assert tasks[pid]["memcg"] == app.path
    # Without a hook, the header may be missing in the kernel log.
    if log.attributes.get("oom.limit.memcg.path") != pod.path:
        assert log.attributes["oom.tasks.memcg.path"] == app.path
        return
    assert set(tasks) == {pid, other}
    assert tasks[other]["memcg"] == sidecar.path
    assert log.attributes["oom.tasks.memcg.path"] == pod.path
    assert log.attributes["oom.limit.memcg.stat.anon"] >= 24 * MIB
    # The victim's memory may be freed, and is then no attribute.
    assert log.attributes.get("oom.victim.memcg.stat.anon", 0) <= 40 * MIB


def test_all_processes_of_a_cgroup_are_scanned() -> None:
    """However many there are: the kernel returns them a page at a time."""
    many = "i=0; while [ $i -lt 900 ]; do sleep 600 & i=$((i + 1)); done; echo; wait"
    files = CgroupMount.find()
    with own_memcg(512 * MIB) as memcg:
        shell: list[str | Path] = ["/bin/sh", "-c", f'echo $$ > "$0"; {many}', memcg.procs]
        with subprocess.Popen(shell, stdout=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            kill = replace(KILL, decision=None, memcg=types.Memcg(None, memcg.path))
            tasks = ProcessScanner(files).scan(kill, swapped=False)
            os.killpg(process.pid, signal.SIGKILL)
    assert tasks is not None
    assert tasks.count + tasks.skipped == 901
