"""Kills by the limit of a certain memory: of a node, of swap, of a socket, of a cgroup v1."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from otel_oom.linux.temporary_cgroup import Cgroup
from tests.testlib.kernel.kills import wait_until_killed
from tests.testlib.kernel.memcg import own_memcg
from tests.vmtest.programs import fill_cgroup, program_path
from tests.vmtest.requirements import is_guest, requires
from tests.vmtest.scenario_kills import NotPlayableError, ScenarioKills

_LIMIT: Final = 16 << 20
_LIMIT_WITH_SWAP: Final = 24 << 20
_NODE: Final = "1"

_HUGE: Final = Path("/sys/kernel/mm/transparent_hugepage")

_REPORTS_S: Final = 5.0
"""After this time without kills, the kernel prints whole reports again."""

_V1: Final = Path("/run/memory")
_FREE_S: Final = 60.0
"""The time until the last page that is charged to a removed cgroup is freed."""


@requires(is_guest)
def policy() -> ScenarioKills:
    """A process fills the only memory node that its memory policy allows."""
    return replace(_fill_node(_NODE), scope="host")


@requires(is_guest)
def cpuset() -> ScenarioKills:
    """A process fills the only memory node that its cpuset allows."""
    root = Cgroup()
    (root.folder / "cgroup.subtree_control").write_text("+memory +cpuset", encoding="ascii")
    with root.child("guest-cpuset") as own:
        (own.folder / "cpuset.mems").write_text(_NODE, encoding="ascii")
        return replace(_fill_node("-1", own), scope="host")


@requires(is_guest)
def huge() -> ScenarioKills:
    """Huge pages are preferred; only the request for a single page leads to a kill."""
    before = {name: _read_selected(_HUGE / name) for name in ("enabled", "defrag")}
    fallbacks = _read_vmstat("thp_fault_fallback_charge")
    try:
        for name in before:
            (_HUGE / name).write_text("always", encoding="ascii")
        with own_memcg(_LIMIT) as own:
            kills = _fill_node("-1", own)
    finally:
        for name, value in before.items():
            (_HUGE / name).write_text(value, encoding="ascii")
    assert _read_vmstat("thp_fault_fallback_charge") > fallbacks
    return kills


def _fill_node(*where: str | Cgroup) -> ScenarioKills:
    words = [word if isinstance(word, str) else word.procs for word in where]
    memcg = next((word for word in where if isinstance(word, Cgroup)), Cgroup())
    with subprocess.Popen([program_path("fill_node"), *words]) as process:
        wait_until_killed(process)
    return ScenarioKills([process.pid], memcg.path, memcg.inode, trigger=process.pid)


@requires(is_guest)
def swap() -> ScenarioKills:
    """Memory and swap of the cgroup are full."""
    with _swap_disk(), own_memcg(_LIMIT) as own:
        limit = str(_LIMIT_WITH_SWAP - _LIMIT)
        (own.folder / "memory.swap.max").write_text(limit, encoding="ascii")
        pid = fill_cgroup(own)
        return ScenarioKills(
            [pid], own.path, own.inode, trigger=pid, memory_and_swap_limit=_LIMIT_WITH_SWAP
        )


@requires(is_guest)
def socket() -> ScenarioKills:
    """Unread TCP data fills the cgroup."""
    with (
        own_memcg(_LIMIT) as own,
        subprocess.Popen([program_path("fill_sockets"), own.procs]) as process,
    ):
        wait_until_killed(process)
        return ScenarioKills([process.pid], own.path, own.inode, trigger=process.pid)


@requires(is_guest)
def version_1() -> ScenarioKills:
    """The cgroup is of version 1, with a limit on memory plus swap."""
    with _swap_disk(), mount_memory_v1() as root:
        time.sleep(_REPORTS_S)
        own = root / "guest-v1"
        own.mkdir()
        (own / "memory.limit_in_bytes").write_text(str(_LIMIT), encoding="ascii")
        (own / "memory.memsw.limit_in_bytes").write_text(str(_LIMIT_WITH_SWAP), encoding="ascii")
        with subprocess.Popen([program_path("fill_cgroup"), own / "cgroup.procs"]) as process:
            wait_until_killed(process)
        kills = ScenarioKills(
            [process.pid],
            "/guest-v1",
            own.stat().st_ino,
            trigger=process.pid,
            memory_and_swap_limit=_LIMIT_WITH_SWAP,
        )
        (own / "memory.force_empty").write_text("0", encoding="ascii")
        own.rmdir()
        return kills


@contextmanager
def mount_memory_v1() -> Iterator[Path]:
    """Mount the memory controller's own hierarchy, which takes it from cgroup v2 for good.

    Raises:
        NotPlayableError: this kernel has none.
    """
    for name in ("memory", "cpuset"):
        control = Cgroup().folder / "cgroup.subtree_control"
        control.write_text(f"-{name}", encoding="ascii")
    _V1.mkdir()
    deadline = time.monotonic() + _FREE_S
    while (code := _mount_memory()) == errno.EBUSY and time.monotonic() < deadline:
        _free_removed_memcgs()
        time.sleep(0.5)
    assert code in {0, errno.EINVAL, errno.ENOENT}, f"{os.strerror(code)}\n{_read_cgroup_stat()}"
    if code or not (_V1 / "memory.limit_in_bytes").exists():
        raise NotPlayableError("this kernel has no memory controller for cgroup v1")
    yield _V1


def _free_removed_memcgs() -> None:
    """Drop the last references to removed cgroups: charges that CPUs cache, and pages.

    A CPU caches a removed cgroup's charges (``memcg_stock_pcp``) until another cgroup is charged
    there. A page that was evicted and first read again by a process of such a cgroup is charged to
    it as long as any process maps the page.
    """
    root = Cgroup()
    control = root.folder / "cgroup.subtree_control"
    control.write_text("+memory", encoding="ascii")
    with root.child("guest-stock") as own:
        for cpu in os.sched_getaffinity(0):
            program = f"echo $$ > {own.procs} && exec dd if=/dev/zero of=/dev/null bs=1M count=1"
            _run("taskset", "--cpu-list", str(cpu), "sh", "-c", program)
    control.write_text("-memory", encoding="ascii")
    os.sync()
    for name in ("compact_memory", "drop_caches"):  # the first one empties the CPUs' lists of pages
        Path("/proc/sys/vm", name).write_text("3", encoding="ascii")
    reclaim = root.folder / "memory.reclaim"  # since Linux 5.19; it evicts mapped pages, too
    if reclaim.exists():
        with suppress(OSError):  # EAGAIN: there was less than that
            reclaim.write_text("256M", encoding="ascii")


def _read_cgroup_stat() -> str:
    return (Cgroup().folder / "cgroup.stat").read_text(encoding="ascii")


def _mount_memory() -> int:
    """Return 0, or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.mount(b"cgroup", os.fsencode(_V1), b"cgroup", 0, b"memory")
    return ctypes.get_errno() if failed else 0


@contextmanager
def _swap_disk() -> Iterator[None]:
    """Swap to a disk of 64 MiB."""
    _run("modprobe", "brd", "rd_nr=1", "rd_size=65536")
    _run("mkswap", "/dev/ram0")
    _run("swapon", "/dev/ram0")
    try:
        yield
    finally:
        _run("swapoff", "/dev/ram0")
        _run("modprobe", "-r", "brd")


def _run(*command: str) -> None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    subprocess.run(command, check=True, env={"PATH": path}, stdout=subprocess.DEVNULL)


def _read_selected(setting: Path) -> str:
    """Return the word in brackets of a file such as ``always [madvise] never``."""
    return setting.read_text(encoding="ascii").partition("[")[2].partition("]")[0]


def _read_vmstat(name: str) -> int:
    lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name} "))


ALL: Final[tuple[Callable[[], ScenarioKills], ...]] = (policy, cpuset, huge, swap, socket)
"""All except `version_1`, after which nothing of cgroup v2 can be played."""
