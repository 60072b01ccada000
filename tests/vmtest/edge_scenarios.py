"""Kills with an unusual end: exiting, stuck, skipped or shared victims, and nested groups."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.linux.temporary_cgroup import Cgroup
from otel_oom.model.events import OomKill
from otel_oom.model.types import Capture, Task
from otel_oom.snapshot import process_state
from tests.testlib.kernel.kills import wait_until_killed
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.speed import slowness
from tests.testlib.wait import wait_until
from tests.vmtest.programs import fill_cgroup, program_path
from tests.vmtest.requirements import (
    can_protect,
    has_cgroup_v2,
    has_several_cpus,
    is_guest,
    requires,
)
from tests.vmtest.scenario_kills import ScenarioKills

_LIMIT: Final = 16 << 20
_BIG: Final = "10"
_SMALL: Final = "8"
"""In MiB: each alone is within the limit, both together exceed it."""

_DELAY_MS: Final = Path("/proc/sys/kernel/printk_delay")
"""The time that the kernel waits before each line of its log."""

_REAPED_S: Final = 60.0
"""The reaper starts 2 s after the kill, and a guest is slow."""


@requires(can_protect)
def exiting() -> ScenarioKills:
    """The victim is already exiting: it is marked, but neither logged nor counted."""
    with own_memcg(_LIMIT) as own, _run_program("hold_in_exit", own, _BIG) as tracer:
        pid = int(_read_line(tracer))
        assert _read_line(tracer) == "ready"
        _make_likely_victim(pid)
        os.kill(pid, signal.SIGKILL)
        assert _read_line(tracer) == "exiting"
        with _run_program("alloc_in_thread", own, _SMALL) as allocator:
            tid = int(_read_line(allocator))
            # Once the reaper has freed the other's memory.
            assert _read_line(allocator) == "ready"
            _release(tracer)
            return ScenarioKills(
                [pid],
                own.path,
                own.inode,
                trigger=allocator.pid,
                trigger_tid=tid,
                already_exiting=[pid],
            )


def stuck() -> ScenarioKills:
    """The victim cannot exit: the oom_reaper releases its memory."""
    with own_memcg(_LIMIT) as own, _run_program("hold_in_exit", own, "0") as tracer:
        pid = int(_read_line(tracer))
        started_ns = ProcessLookup().start_boottime_ns(pid)
        assert _read_line(tracer) == "exiting"
        deadline = time.monotonic() + _REAPED_S * slowness()
        while _read_anon_kb(pid):
            assert time.monotonic() < deadline, "the reaper did not come"
            time.sleep(0.1)
        # It prints its report before its last step, which is captured until the victim exits.
        wait_until(_is_reaper_idle, "the reaper's end", limit=_REAPED_S * slowness())
        state = process_state(_kill_of(pid, started_ns))
        _release(tracer)
        return ScenarioKills([pid], own.path, own.inode, trigger=pid, victim_state=state)


def _is_reaper_idle() -> bool:
    """Return whether it waits for a process (wait_event_freezable()), not for its next try."""
    return any(_reads_as_idle_reaper(stat) for stat in Path("/proc").glob("[0-9]*/stat"))


def _reads_as_idle_reaper(stat: Path) -> bool:
    with suppress(OSError):
        return " (oom_reaper) S " in stat.read_text("ascii", "replace")
    return False


@requires(is_guest, has_several_cpus, can_protect)
def skipped() -> ScenarioKills:
    """The chosen process exits while the kernel prints its report: nothing is killed."""
    with (
        own_memcg(_LIMIT) as own,
        _slow_down_log(),
        _run_program("exit_on_oom", own, _BIG) as chosen,
    ):
        assert _read_line(chosen) == "ready"
        _make_likely_victim(chosen.pid)
        with _run_program("alloc_in_thread", own, _SMALL) as allocator:
            tid = int(_read_line(allocator))
            assert _read_line(allocator) == "ready"
            assert chosen.wait(60) == 0
            return ScenarioKills(
                [],
                own.path,
                own.inode,
                trigger=allocator.pid,
                trigger_tid=tid,
                skipped=[chosen.pid],
            )


def sharing() -> ScenarioKills:
    """Another process shares the victim's memory: it is killed as well, without a mark."""
    with own_memcg(_LIMIT) as own, _run_program("share_memory", own) as victim:
        other = int(_read_line(victim))
        wait_until_killed(victim)
        _, status = os.waitpid(other, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        return ScenarioKills(
            [victim.pid], own.path, own.inode, trigger=victim.pid, unmarked=[other]
        )


@requires(can_protect)
def other_thread() -> ScenarioKills:
    """The second thread of another process than the victim allocates."""
    with own_memcg(_LIMIT) as own, _run_program("hold_in_exit", own, _BIG) as tracer:
        pid = int(_read_line(tracer))
        assert _read_line(tracer) == "ready"
        _make_likely_victim(pid)
        with _run_program("alloc_in_thread", own, _SMALL) as allocator:
            tid = int(_read_line(allocator))
            assert _read_line(tracer) == "exiting"
            _release(tracer)
            assert _read_line(allocator) == "ready"
            return ScenarioKills([pid], own.path, own.inode, trigger=allocator.pid, trigger_tid=tid)


@requires(has_cgroup_v2)
def nested_group() -> ScenarioKills:
    """A pod of several containers is killed as a group, by a limit above it; a sibling survives."""
    with own_memcg(_LIMIT) as own, own.child("pod") as pod, own.child("beside") as beside:
        own.delegate_memory()
        pod.delegate_memory()
        (pod.folder / "memory.oom.group").write_text("1", encoding="ascii")
        with ExitStack() as stack:
            sibling = stack.enter_context(_run_program("idle_threads", beside, "0"))
            containers = [stack.enter_context(pod.child(name)) for name in ("a", "b", "c")]
            members = [
                stack.enter_context(_run_program("idle_threads", container, "3"))
                for container in containers
            ]
            for process in (sibling, *members):
                assert _read_line(process) == "ready"
            threads = [
                tid for member in members for tid in _list_threads(member) if tid != member.pid
            ]
            eater = fill_cgroup(containers[0])
            for process in members:
                wait_until_killed(process)
            assert sibling.poll() is None
            memcgs = {
                container.path: [member.pid]
                for container, member in zip(containers, members, strict=True)
            }
            memcgs[containers[0].path].append(eater)
            pids = [pid for some in memcgs.values() for pid in some]
            return ScenarioKills(
                pids, trigger=eater, scope="ancestor", threads=threads, memcgs=memcgs
            )


def _list_threads(process: subprocess.Popen[bytes]) -> list[int]:
    return [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]


@contextmanager
def _slow_down_log() -> Iterator[None]:
    """Make the kernel log slowly: a report of 60 lines takes half a second on any machine."""
    before = _DELAY_MS.read_text(encoding="ascii")
    _DELAY_MS.write_text("10", encoding="ascii")
    try:
        yield
    finally:
        _DELAY_MS.write_text(before, encoding="ascii")


@contextmanager
def _run_program(name: str, memcg: Cgroup, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run one of our programs, which moves into the cgroup itself; kill it at the end."""
    with subprocess.Popen(
        [program_path(name), memcg.procs, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _read_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode("ascii").strip()


def _release(tracer: subprocess.Popen[bytes]) -> None:
    assert tracer.stdin is not None
    tracer.stdin.close()
    assert tracer.wait(60) == 0


def _make_likely_victim(pid: int) -> None:
    Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def _read_anon_kb(pid: int) -> int:
    """Return the anonymous memory of a process in kB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    match = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    assert match
    return int(match[1])


def _kill_of(pid: int, started_ns: int | None) -> OomKill:
    """Return as much of a kill as the check of its victim's state needs."""
    return OomKill(
        boot_id="",
        boottime_ns=0,
        time_unix_ns=0,
        victim=Task(pid, start_boottime_ns=started_ns),
        memory=None,
        memcg=None,
        trigger=None,
        capture=Capture("", "", None, 0),
    )


ALL: Final[tuple[Callable[[], ScenarioKills], ...]] = (
    exiting,
    stuck,
    sharing,
    other_thread,
    nested_group,
)
"""All except `skipped`, which changes a setting of the whole machine."""
