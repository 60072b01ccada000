"""The snapshot of a victim, compared with /proc and the cgroup's own files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.snapshot import MemcgStats, Snapshot
from otel_oom.model.types import Memcg, MemcgUsage, Task
from otel_oom.snapshot import add_limit_cgroup, read_usage, take_snapshot
from otel_oom.snapshot.cgroup_stats import read_memcg_stats
from otel_oom.snapshot.environ import EnvironReader
from otel_oom.snapshot.host_stats import read_vm_settings
from otel_oom.snapshot.victim import process_state
from tests.testlib.require import require
from tests.testlib.samples.events import KILL, SNAPSHOT, roundtrip


def _own_start_ns() -> int:
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def test_files_of_a_process() -> None:
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel")
    me = replace(KILL, memcg=None, victim=Task(tgid=os.getpid(), start_boottime_ns=_own_start_ns()))
    snapshot = take_snapshot(me, None)
    assert snapshot.process_found
    assert snapshot.executable == os.path.realpath(sys.executable)
    assert snapshot.cgroup == Path("/proc/self/cgroup").read_text(encoding="utf-8")


def test_a_victim_that_left_its_cgroups_is_in_none(tmp_path: Path) -> None:
    """Late in its exit, /proc shows the root of every hierarchy."""
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel")
    (tmp_path / "self").symlink_to("/proc/self")
    folder = tmp_path / str(KILL.victim.tgid)
    folder.mkdir()
    start = (KILL.victim.start_boottime_ns or 0) * os.sysconf("SC_CLK_TCK") // 10**9
    (folder / "stat").write_text(f"4711 (java) S {'0 ' * 18}{start} 0\n", encoding="ascii")
    kill = replace(KILL, memcg=Memcg(1, "/docker/x", path_cut=True))
    for text, expected in (
        ("4:memory:/\n1:cpu:/\n0::/\n", None),
        ("4:memory:/docker/x\n", "4:memory:/docker/x\n"),
        ("0::/docker/x\n", "0::/docker/x\n"),
        ("0::/docker/x\n1", "0::/docker/x\n1"),
    ):
        (folder / "cgroup").write_text(text, encoding="ascii")
        snapshot = take_snapshot(kill, None, tmp_path)
        assert (snapshot.process_found, snapshot.cgroup, snapshot.executable) == (
            True,
            expected,
            None,
        )


def test_the_memory_of_a_victim_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found by its cgroup: the files that hold its memory are not opened.

    A victim that exits meanwhile would free its memory late, and its parent would be killed, too.
    """
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel")
    (tmp_path / "self").symlink_to("/proc/self")
    folder = tmp_path / str(KILL.victim.tgid)
    folder.mkdir()
    for name in ("stat", "status", "statm", "environ", "cmdline", "maps", "smaps"):
        os.mkfifo(folder / name)
    (folder / "exe").symlink_to("/usr/bin/java")
    assert KILL.memcg
    container = KILL.memcg.path.rpartition("/")[2]
    monkeypatch.setattr(EnvironReader, "read", lambda *_: pytest.fail("read a victim's memory"))
    environ = EnvironReader(tmp_path)
    for path, found in (
        (KILL.memcg.path, True),
        # As an agent in a cgroup namespace of its own sees it.
        (f"/../../{container}", True),
        ("/..", False),
        ("/docker/other", False),
        ("/", False),
    ):
        (folder / "cgroup").write_text(f"0::{path}\n", encoding="ascii")
        # Whoever opens a FIFO to read waits for ever.
        assert take_snapshot(KILL, None, tmp_path, environ).process_found == found
    environ.close()


def test_another_process_with_that_pid_is_not_the_victim() -> None:
    later = replace(KILL, victim=Task(tgid=os.getpid(), start_boottime_ns=_own_start_ns() - 10**9))
    assert not take_snapshot(later, None).process_found


@pytest.mark.parametrize(
    ("comm", "started", "found"),
    [
        ("java", -1, True),
        (None, -1, True),
        # The kernel's log names the victim; another process has taken its number.
        ("python", -1, False),
        ("java", 0, False),
        (None, 1, False),
    ],
)
def test_without_a_start_time_the_victim_has_its_pid_since_before_the_kill(
    tmp_path: Path,
    comm: str | None,
    started: int,
    found: bool,  # noqa: FBT001  a parameter of the table
) -> None:
    """By name and start, in clock ticks after the kill: a tick may have two processes."""
    ticks = KILL.boottime_ns * os.sysconf("SC_CLK_TCK") // 10**9 + started
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel")
    (tmp_path / "self").symlink_to("/proc/self")
    (tmp_path / "4711").mkdir()
    (tmp_path / "4711/stat").write_text(f"4711 (java) S {'0 ' * 18}{ticks} 0\n", encoding="ascii")
    kill = replace(KILL, memcg=None, victim=Task(tgid=4711, comm=comm))
    assert take_snapshot(kill, None, tmp_path).process_found == found
    assert (process_state(kill, tmp_path) is not None) == found


NEW_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
SNAPSHOT_OF_INIT = """
from msgspec.structs import replace
from otel_oom.linux.clock import boottime_ns
from otel_oom.linux.process import ProcessDir
from otel_oom.model.types import Task
from otel_oom.snapshot import take_snapshot
from tests.testlib.require import require
from tests.testlib.samples.events import KILL
start = ProcessDir(1).read_stat().start_boottime_ns
for victim in (Task(1, start_boottime_ns=start), Task(1)):
    kill = replace(KILL, boottime_ns=boottime_ns() + 10**9, victim=victim)
    print(take_snapshot(kill, None).process_found)
"""


@pytest.mark.root
def test_in_another_pid_namespace_no_process_is_the_victim() -> None:
    """Its /proc has other numbers than the kernel's record, and its processes any start."""
    command = [*NEW_NAMESPACE, sys.executable, "-c", SNAPSHOT_OF_INIT]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.splitlines() == ["False", "False"]


def test_a_process_that_is_gone_is_not_found() -> None:
    gone = replace(KILL, victim=Task(tgid=2**22 + 1, start_boottime_ns=1))
    assert not take_snapshot(gone, None).process_found


@pytest.mark.parametrize(
    ("v1", "files", "expected"),
    [
        (
            False,
            {"memory.max": "1048576\n", "memory.current": "4096\n", "memory.swap.max": "max\n"},
            MemcgUsage(1048576, 4096, None, None),
        ),
        (False, {"memory.max": "max\n", "memory.current": "1\n"}, MemcgUsage(None, 1, None, None)),
        (
            True,
            {
                "memory.limit_in_bytes": "9223372036854771712\n",
                "memory.usage_in_bytes": "4096\n",
                "memory.memsw.limit_in_bytes": "8192\n",
                "memory.memsw.usage_in_bytes": "6000\n",
            },
            MemcgUsage(None, 4096, 8192, 6000),
        ),
    ],
)
def test_usage_is_that_of_the_files(
    tmp_path: Path,
    v1: bool,  # noqa: FBT001  a parameter of the table
    files: dict[str, str],
    expected: MemcgUsage,
) -> None:
    """On both versions of cgroups, without a limit too."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="ascii")
    files_ = CgroupMount(tmp_path, "/", v1=v1)
    assert files_.read_usage(Memcg(folder.stat().st_ino, "/a/b")) == expected
    assert files_.read_usage(Memcg(folder.stat().st_ino + 1, "/a/b")) is None


def test_a_cgroup_that_is_gone_has_no_usage(tmp_path: Path) -> None:
    """Unknown is not unlimited."""
    assert CgroupMount(tmp_path, "/", v1=False).read_usage(Memcg(1, "/gone")) is None


def test_a_mount_of_a_part_of_the_hierarchy(tmp_path: Path) -> None:
    files = CgroupMount(tmp_path, "/docker/abc", v1=False)
    assert files.folder(Memcg(1, "/docker/abc/x")) == tmp_path / "x"
    assert files.folder(Memcg(1, "/docker/abc")) == tmp_path
    assert files.folder(Memcg(1, "/docker/abcd")) is None
    assert files.folder(Memcg(1, "…/abc/x", path_cut=True)) is None
    above = CgroupMount(tmp_path, "/../..", v1=False)
    assert above.folder(Memcg(1, "/docker/abc")) == tmp_path / "docker/abc"
    assert CgroupMount(tmp_path, "/..x", v1=False).folder(Memcg(1, "/docker/abc")) is None


@pytest.mark.parametrize(
    ("mounts", "mount", "v1"),
    [
        ("30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup", False),
        (
            (
                "30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
                "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                "32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            ),
            "/sys/fs/cgroup/memory",
            True,
        ),
        ("30 24 0:26 / /ä\\040b rw shared:9 - cgroup2 none rw\n", "/ä b", False),
        # Any other separator of lines may be in the path of a container's mount.
        (
            "9 24 0:9 / /a\x0bb\u2028c\r rw - bpf none rw\n30 24 0:26 / /x rw - cgroup2 none rw\n",
            "/x",
            False,
        ),
    ],
)
def test_the_memory_hierarchy_is_found(
    tmp_path: Path,
    mounts: str,
    mount: str,
    v1: bool,  # noqa: FBT001  a parameter of the table
) -> None:
    """On pure v2, on hybrid hosts, and with a space in the mount point."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(mounts, encoding="utf-8")
    assert CgroupMount.find(mountinfo) == CgroupMount(Path(mount), "/", v1=v1)


def test_a_host_without_cgroups_has_no_mount(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("21 24 0:19 / /proc rw - proc proc rw\n", encoding="ascii")
    assert CgroupMount.find(mountinfo) is None


def test_a_snapshot_survives_storage() -> None:
    named = replace(SNAPSHOT, environ={"OTEL_SERVICE_NAME": "shop"})
    for snapshot in (SNAPSHOT, named, Snapshot(process_found=False)):
        assert roundtrip(snapshot) == snapshot


def test_a_recovered_kill_has_no_usage(tmp_path: Path) -> None:
    """Only its limit, which mostly stays."""
    memcg = tmp_path / "pod"
    memcg.mkdir()
    for name, value in (("memory.max", 64), ("memory.current", 7), ("memory.swap.current", 3)):
        (memcg / name).write_text(f"{value}\n", encoding="ascii")
    where = Memcg(id=memcg.stat().st_ino, path="/pod")
    late = replace(
        KILL, memcg=where, memcg_usage=None, capture=replace(KILL.capture, recovered=True)
    )
    cgroups = CgroupMount(tmp_path, "/", v1=False)
    usage = MemcgUsage(limit=64, usage=None, swap_limit=None, swap_usage=None)
    assert read_usage(late, cgroups) == usage
    snapshot = take_snapshot(late, cgroups, tmp_path)
    assert (snapshot.host, snapshot.victim_cgroup, snapshot.limit_cgroup) == (None, None, None)


@pytest.mark.parametrize(
    ("recovered", "files", "expected"),
    [
        (False, {}, "marked"),
        (False, {"memory.current": 1, "memory.swap.current": 1}, "marked"),
        # Without files of swap the kernel has no swap accounting: its counters are not used.
        (False, {"memory.current": 1}, "without swap"),
        # No usage is read for a recovered kill.
        (True, {"memory.current": 1}, "marked"),
    ],
)
def test_the_usage_at_the_mark_has_precedence(
    tmp_path: Path,
    recovered: bool,  # noqa: FBT001  a parameter of the table
    files: dict[str, int],
    expected: str,
) -> None:
    (tmp_path / "pod").mkdir()
    for name, value in files.items():
        (tmp_path / "pod" / name).write_text(f"{value}\n", encoding="ascii")
    marked = MemcgUsage(limit=32 << 20, usage=31 << 20, swap_limit=None, swap_usage=0)
    kill = replace(
        KILL,
        memcg=Memcg(None, "/pod"),
        memcg_usage=marked,
        capture=replace(KILL.capture, recovered=recovered),
    )
    without_swap = replace(marked, swap_usage=None)
    usage = read_usage(kill, CgroupMount(tmp_path, "/", v1=False))
    assert usage == {"marked": marked, "without swap": without_swap}[expected]


def test_without_a_mark_the_usage_is_read(tmp_path: Path) -> None:
    """The kernel log has none of the victim's cgroup."""
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod/memory.current").write_text("7\n", encoding="ascii")
    kill = replace(KILL, memcg=Memcg(None, "/pod"), memcg_usage=None)
    usage = read_usage(kill, CgroupMount(tmp_path, "/", v1=False))
    assert usage is not None
    assert usage.usage == 7
    assert read_usage(kill, None) is None


V2 = {
    "memory.stat": "anon 10\nfile 20\nshmem 5\nkernel 7\nsock 1\npgfault 99\nslab 3\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n",
    "memory.pressure": (
        "some avg10=12.50 avg60=3.07 avg300=0.00 total=1\n"
        "full avg10=9.25 avg60=2.00 avg300=0.00 total=1\n"
    ),
}
V1 = {
    "memory.stat": "cache 1\nrss 2\ntotal_cache 20\ntotal_rss 10\ntotal_shmem 5\ntotal_swap 9\n",
    "memory.kmem.usage_in_bytes": "7\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "memory.failcnt": "5\n",
    "memory.memsw.failcnt": "7\n",
}


@pytest.mark.parametrize(
    ("v1", "files", "expected"),
    [
        (
            False,
            V2,
            MemcgStats(
                {"anon": 10, "file": 20, "shmem": 5, "kernel": 7, "sock": 1},
                {"low": 0, "high": 0, "max": 12, "oom": 3, "oom_kill": 2},
                {"some.avg10": 12.5, "some.avg60": 3.07, "full.avg10": 9.25, "full.avg60": 2.0},
            ),
        ),
        (
            True,
            V1,
            MemcgStats(
                {"anon": 10, "file": 20, "shmem": 5, "kernel": 7}, {"oom_kill": 2, "max": 12}
            ),
        ),
        (True, {"memory.failcnt": "0\n", "memory.memsw.failcnt": "0\n"}, MemcgStats()),
        (False, {}, MemcgStats()),
        (False, {"memory.stat": "anon\nfile x\nsock -1\n", "memory.events": ""}, MemcgStats()),
    ],
    ids=["v2", "v1", "not counted", "no files", "no numbers"],
)
def test_statistics_have_the_names_of_v2(
    tmp_path: Path,
    v1: bool,  # noqa: FBT001  a parameter of the table
    files: dict[str, str],
    expected: MemcgStats,
) -> None:
    """On both versions; others are left out."""
    folder = tmp_path / "a"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content, encoding="ascii")
    memcg = Memcg(folder.stat().st_ino, "/a")
    assert read_memcg_stats(CgroupMount(tmp_path, "/", v1=v1), memcg) == expected
    assert read_memcg_stats(CgroupMount(tmp_path, "/", v1=v1), Memcg(1, "/a")) is None


def test_the_cgroup_of_the_limit_and_the_victims_own(tmp_path: Path) -> None:
    """Both if they differ; the same one is read once."""
    (tmp_path / "pod/app").mkdir(parents=True)
    for path, anon in (("pod", 50), ("pod/app", 40)):
        (tmp_path / path / "memory.stat").write_text(f"anon {anon}\n", encoding="ascii")
    files = CgroupMount(tmp_path, "/", v1=False)
    pod, app = MemcgStats({"anon": 50}), MemcgStats({"anon": 40})
    assert KILL.decision is not None
    for hit, own, expected in (
        ("/pod", "/pod/app", (pod, app)),
        ("/pod", "/pod", (pod, None)),
        (None, "/pod/app", (None, app)),
        ("/gone", "/pod/app", (None, app)),
    ):
        memcg = Memcg(None, hit) if hit else None
        decided = replace(
            KILL, memcg=Memcg(None, own), decision=replace(KILL.decision, memcg=memcg)
        )
        snapshot = take_snapshot(decided, files, tmp_path)
        assert (snapshot.limit_cgroup, snapshot.victim_cgroup) == expected
        assert add_limit_cgroup(decided, snapshot, files) == snapshot
        # The decision may be known only from the kernel log, after the snapshot.
        early = take_snapshot(replace(decided, decision=None), files, tmp_path)
        late = add_limit_cgroup(decided, early, files)
        assert (late.limit_cgroup, late.victim_cgroup) == expected


def test_host_memory_is_that_of_the_files() -> None:
    """Memory in bytes, and the pressure if there is any."""
    host = take_snapshot(KILL, None).host
    assert host is not None
    assert host.memory["total"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < host.memory["available"] <= host.memory["total"]
    assert {"free", "anon", "shmem", "swap_total", "swap_free", "committed"} < host.memory.keys()
    assert bool(host.pressure) == Path("/proc/pressure/memory").exists()
    assert set(host.pressure) <= {"some.avg10", "some.avg60", "full.avg10", "full.avg60"}


def test_vm_settings_are_the_kernels() -> None:
    vm = Path("/proc/sys/vm")
    expected = {
        name: int((vm / name).read_text(encoding="ascii"))
        for name in (
            *("overcommit_memory", "overcommit_ratio", "panic_on_oom", "oom_dump_tasks"),
            *("oom_kill_allocating_task", "min_free_kbytes", "swappiness"),
        )
    }
    assert read_vm_settings() == expected
