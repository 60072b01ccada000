"""Why it happened, told of real kills and held against the kernel's own files and log."""

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
    """A process in the cgroup that holds so much, less than who is to be killed; its pid."""
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
def _below(limit: int) -> Iterator[tuple[Cgroup, Cgroup, Cgroup]]:
    """A cgroup with a limit, and two in it without."""
    with own_memcg(limit) as pod:
        pod.delegate_memory()
        with pod.child("app") as app, pod.child("sidecar") as sidecar:
            yield pod, app, sidecar


def candidates(attributes: dict[str, Any]) -> dict[int, dict[str, str]]:
    """The lines of the candidates by their pids."""
    lines = str(attributes["oom.tasks.largest"]).splitlines()
    return {int(fields["pid"]): fields for fields in (dict(_LINE.findall(line)) for line in lines)}


def status(pid: int, field: str) -> int:
    """A size that /proc says of a process, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(re.findall(rf"(?m)^{field}:\s+(\d+) kB$", text)[0]) * KB


def test_a_kill_says_who_else_used_the_memory(tmp_path: Path) -> None:
    """The neighbour in the same cgroup is told as its own files say; the victim as it was marked.

    Neither the host's other processes nor one that holds nothing of its own are told. The cgroup's
    memory, its count of kills and the settings are those of the kernel's files.
    """
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}),
        own_memcg(64 * MIB) as memcg,
        neighbour(memcg.procs, 24) as other,
    ):
        resident, tables = status(other, "VmRSS"), status(other, "VmPTE")
        pid = kill_in(memcg)
        backend.wait_for_kills([pid], within_s=20)
        events = {
            file.name: file.read_text(encoding="ascii")
            for name in ("memory.oom_control", "memory.events")
            if (file := memcg.folder / name).exists()
        }
    (log,) = filter_kills(backend.logs, [pid])
    (span,) = filter_kills(backend.spans, [pid])
    told = log.attributes
    # The kernel's own report is the log's alone.
    shared = {name: value for name, value in told.items() if name != "log.record.original"}
    assert shared.items() <= span.attributes.items()

    lines = candidates(told)
    assert set(lines) == {pid, other}
    assert abs(int(lines[other]["resident"]) - resident) < MIB
    pages = (int(lines[other]["resident"]) + tables) // 4096
    assert int(lines[other]["points"]) == pages
    assert lines[other]["memcg"] == told["oom.victim.memcg.path"] == told["oom.tasks.memcg.path"]
    assert lines[pid]["killed"] == "true"
    held = sum(told[f"oom.victim.memory.{kind}"] for kind in ("anon", "file", "shmem"))
    assert int(lines[pid]["resident"]) == held
    assert "killed" not in lines[other]
    # The table in the kernel's log is of before the mark; a look of ours is the last one.
    assert told["oom.snapshot.delay"] >= 0
    after = told["oom.tasks.delay"]
    assert after < 0 or after >= told["oom.snapshot.delay"]

    # On a host that allows no hook for decisions, its log may not have told the limit's cgroup.
    prefix = "oom.limit" if "oom.limit.memcg.path" in told else "oom.victim"
    # The neighbour's is still there; what the victim had may be gone.
    assert 24 * MIB <= told[f"{prefix}.memcg.stat.anon"] <= 64 * MIB
    (killed,) = {
        int(found)
        for text in events.values()
        for found in re.findall(r"(?m)^oom_kill (\d+)$", text)
    }
    assert told[f"{prefix}.memcg.events.oom_kill"] == killed == 1
    assert told.get(f"{prefix}.memcg.events.max", 1) > 0

    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    total = int(re.findall(r"MemTotal:\s+(\d+) kB", meminfo)[0]) * KB
    assert told["oom.host.memory.total"] == total
    assert 0 < told["oom.host.memory.available"] < total
    for name in ("panic_on_oom", "oom_kill_allocating_task", "overcommit_memory", "swappiness"):
        file = Path("/proc/sys/vm", name)
        assert told[f"oom.host.sysctl.vm.{name}"] == int(file.read_text(encoding="ascii"))


def test_the_limit_of_an_ancestor_is_shared_by_others(tmp_path: Path) -> None:
    """A neighbour in another cgroup below the same limit is told, with its own cgroup.

    Where it could not be told whose limit it was, those of the victim's own cgroup are.
    """
    backend = Backend()
    with (
        Receiver(backend) as receiver,
        run_agent(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}),
        _below(64 * MIB) as (pod, app, sidecar),
        neighbour(sidecar.procs, 24) as other,
    ):
        pid = kill_in(app)
        backend.wait_for_kills([pid], within_s=20)
    (log,) = filter_kills(backend.logs, [pid])
    lines = candidates(log.attributes)
    assert lines[pid]["memcg"] == app.path
    # Its header can be missing in the kernel's log, on a host that allows no hook.
    if log.attributes.get("oom.limit.memcg.path") != pod.path:
        assert log.attributes["oom.tasks.memcg.path"] == app.path
        return
    assert set(lines) == {pid, other}
    assert lines[other]["memcg"] == sidecar.path
    assert log.attributes["oom.tasks.memcg.path"] == pod.path
    assert log.attributes["oom.limit.memcg.stat.anon"] >= 24 * MIB
    # What it had may be gone, and is then no part that is worth a word.
    assert log.attributes.get("oom.victim.memcg.stat.anon", 0) <= 40 * MIB


def test_all_the_processes_of_a_cgroup_are_looked_at() -> None:
    """However many there are: the kernel tells them a page at a time."""
    many = "i=0; while [ $i -lt 900 ]; do sleep 600 & i=$((i + 1)); done; echo; wait"
    files = CgroupMount.find()
    with own_memcg(512 * MIB) as memcg:
        shell: list[str | Path] = ["/bin/sh", "-c", f'echo $$ > "$0"; {many}', memcg.procs]
        with subprocess.Popen(shell, stdout=subprocess.PIPE, start_new_session=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            kill = replace(KILL, decision=None, memcg=types.Memcg(None, memcg.path))
            found = ProcessScanner(files).scan(kill, swapped=False)
            os.killpg(process.pid, signal.SIGKILL)
    assert found is not None
    assert found.count + found.skipped == 901
