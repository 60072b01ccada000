"""What each peer costs, and which kills it reports."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.bench.peers.programs import Peer, RunningPeer
from tests.bench.peers.table import PeerResult
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.wait import wait_until

STORM: Final = 1000
DOWN: Final = 10
GROUP: Final = 3

_LIMIT_BYTES: Final = 4 << 20
_PARALLEL: Final = 4
_START_S: Final = 300.0
_QUIET_S: Final = 60.0
_REPORT_S: Final = 1800.0
_PAUSE_S: Final = 0.5
_IDLE_S: Final = 20.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")

_KILLABLE: Final = ("choom", "-n", "0", "--")
"""The programs of a guest are protected."""
_ONE_BY_ONE: Final = """
n=0
while [ $n -lt $0 ]; do tail /dev/zero & echo $!; wait $!; n=$((n + 1)); done
"""
_TOGETHER: Final = """
sleep 1000 & echo $!; sleep 1000 & echo $!; echo $$; exec tail /dev/zero
"""
_CHILD: Final = "sleep 2; exec tail /dev/zero"
_NAMESPACE: Final = ("unshare", "--pid", "--fork", "sh", "-c", f"sh -c '{_CHILD}' & wait; sleep 1")


def measure_peers(peers: Sequence[Peer], folder: Path) -> list[PeerResult]:
    """Measure all peers: their start one after another, the rest at the same time."""
    with ExitStack() as stack:
        running = [RunningPeer(peer, folder / str(index)) for index, peer in enumerate(peers)]
        for each in running:
            stack.callback(each.clean_up)
        starts = [_measure_start(each) for each in running]
        down = set(kill_one_by_one(DOWN))
        for each in running:
            each.start()
        with _kill_now_and_then() as made:
            _await(running, made)
        _await_reports(running, set(made))
        memory = [_measure_memory_mb(each) for each in running]
        busy = [_read_cpu_s(each) for each in running]
        time.sleep(_IDLE_S)
        idle = [(_read_cpu_s(each) - busy[index]) / _IDLE_S for index, each in enumerate(running)]
        child, group = _kill_in_namespace(), set(_kill_group())
        with ThreadPoolExecutor(_PARALLEL) as pool:
            parts = pool.map(kill_one_by_one, [STORM // _PARALLEL] * _PARALLEL)
            storm = {pid for part in parts for pid in part}
        _await_reports(running, storm)
        return [
            PeerResult(
                name=each.peer.name,
                version=each.peer.version,
                start_s=starts[index],
                rss_mb=memory[index],
                idle_percent=idle[index] * 100,
                storm=len(storm & each.pids()),
                group=len(group & each.pids()),
                child=child in each.pids(),
                down=len(down & each.pids()),
                fields=each.peer.fields,
                note=each.peer.note,
            )
            for index, each in enumerate(running)
        ]


def kill_one_by_one(count: int) -> list[int]:
    """Have the kernel kill ``count`` processes of a cgroup for its limit; return their pids."""
    with own_memcg(_LIMIT_BYTES) as memcg:
        command = [*cgroup_prefix(memcg), *_KILLABLE, "/bin/sh", "-c", _ONE_BY_ONE, str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def _kill_group() -> list[int]:
    """Have the kernel kill all three processes of a cgroup; return their pids."""
    with own_memcg(_LIMIT_BYTES) as memcg:
        (memcg.folder / "memory.oom.group").write_text("1", encoding="ascii")
        command = [*cgroup_prefix(memcg), *_KILLABLE, "/bin/sh", "-c", _TOGETHER]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    return [int(pid) for pid in done.stdout.split()]


def _kill_in_namespace() -> int:
    """Have the kernel kill a child of the first process of a PID namespace; return its pid."""
    with (
        own_memcg(_LIMIT_BYTES) as memcg,
        subprocess.Popen([*cgroup_prefix(memcg), *_KILLABLE, *_NAMESPACE]),
    ):
        return wait_until(lambda: _find_child(memcg.procs), "the child", limit=_START_S)


def _find_child(procs: Path) -> int:
    for pid in map(int, procs.read_text(encoding="ascii").split()):
        if _read(pid, "cmdline").split("\0")[:3] == ["sh", "-c", _CHILD]:
            return pid
    return 0


def _measure_start(running: RunningPeer) -> float | None:
    """Return the time from the start to the first kill that is reported; then stop it.

    It is the time of the kill, whose report can be late.
    """
    began = time.monotonic()
    running.start()
    try:
        with _kill_now_and_then() as made:
            _await([running], made)
        times = [made[pid] - began for pid in running.pids() & set(made)]
        return min(times, default=None)
    finally:
        running.stop()


@contextmanager
def _kill_now_and_then() -> Iterator[dict[int, float]]:
    """Yield the kills that are made meanwhile: their times by pid."""
    made: dict[int, float] = {}
    over = threading.Event()

    def kill() -> None:
        while not over.wait(_PAUSE_S):
            began = time.monotonic()
            made.update(dict.fromkeys(kill_one_by_one(1), began))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield made
    finally:
        over.set()
        killer.join()


def _await(running: Sequence[RunningPeer], made: Mapping[int, float]) -> None:
    """Wait until all that still run have reported one of these kills, or for some minutes."""
    with suppress(TimeoutError):
        wait_until(
            lambda: all(each.pids() & set(made) for each in running if each.runs),
            "a report",
            limit=_START_S,
            every=0.2,
        )


def _await_reports(running: Sequence[RunningPeer], pids: set[int]) -> None:
    """Wait until no peer has reported a further one of these kills for a minute."""
    counts: list[int] = []
    changed = began = time.monotonic()
    while (now := time.monotonic()) < min(changed + _QUIET_S, began + _REPORT_S):
        before, counts = counts, [len(each.pids() & pids) for each in running]
        if counts != before:
            changed = now
        time.sleep(_QUIET_S / 10)


def _measure_memory_mb(running: RunningPeer) -> float:
    """Return the RSS of a peer and its children, in units of 10^6 bytes."""
    return sum(
        int(line.split()[1]) * 1024 / 1e6
        for pid in _tree(running)
        for line in _read(pid, "status").splitlines()
        if line.startswith("VmRSS:")
    )


def _read_cpu_s(running: RunningPeer) -> float:
    """Return the CPU time of a peer and its children, also of those that have ended."""
    fields = (_read(pid, "stat").rpartition(")")[2].split() for pid in _tree(running))
    return sum(int(value) for each in fields for value in each[11:15]) / _TICKS


def _tree(running: RunningPeer) -> Iterator[int]:
    pids = [process.pid for process in running.processes]
    while pids:
        pid = pids.pop()
        yield pid
        pids += _children(pid)


def _children(pid: int) -> Iterable[int]:
    return map(int, _read(pid, f"task/{pid}/children").split())


def _read(pid: int, name: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    return ""
