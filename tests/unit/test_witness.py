"""What is read of the victim, held against /proc and the cgroup's own files."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from otel_oom.facts import Limits, Memcg, Task
from otel_oom.witness import MemcgFiles, Witness, look
from tests.support.samples import KILL, WITNESS


def _own_start_ns() -> int:
    ticks = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def test_a_process_is_seen() -> None:
    """Executable and cgroups are what /proc says."""
    me = replace(KILL, memcg=None, victim=Task(tgid=os.getpid(), started_ns=_own_start_ns()))
    witness = look(me, None)
    assert witness.seen
    assert witness.executable == os.path.realpath(sys.executable)
    assert witness.cgroup == Path("/proc/self/cgroup").read_text(encoding="utf-8")


def test_a_victim_that_has_left_its_cgroups_is_in_none(tmp_path: Path) -> None:
    """The roots that /proc shows of a task far into its exit are not where it was killed."""
    folder = tmp_path / str(KILL.victim.tgid)
    folder.mkdir()
    start = (KILL.victim.started_ns or 0) * os.sysconf("SC_CLK_TCK") // 10**9
    (folder / "stat").write_text(f"4711 (java) S {'0 ' * 18}{start} 0\n", encoding="ascii")
    for text, expected in (
        ("4:memory:/\n1:cpu:/\n0::/\n", None),
        ("4:memory:/docker/x\n", "4:memory:/docker/x\n"),
        ("0::/docker/x\n", "0::/docker/x\n"),
        ("0::/docker/x\n1", "0::/docker/x\n1"),
    ):
        (folder / "cgroup").write_text(text, encoding="ascii")
        assert look(KILL, None, tmp_path) == Witness(
            seen=True, cgroup=expected, executable=None, limits=None
        )


def test_another_process_with_that_pid_is_not_the_victim() -> None:
    """A pid that was used again says nothing of the victim."""
    later = replace(KILL, victim=Task(tgid=os.getpid(), started_ns=_own_start_ns() - 10**9))
    assert look(later, None) == Witness(seen=False)


def test_a_process_that_is_gone_is_not_seen() -> None:
    """Without its /proc folder there is nothing to tell, and no error."""
    gone = replace(KILL, victim=Task(tgid=2**22 + 1, started_ns=1))
    assert look(gone, None) == Witness(seen=False)


@pytest.mark.parametrize(
    ("v1", "files", "expected"),
    [
        (
            False,
            {"memory.max": "1048576\n", "memory.current": "4096\n", "memory.swap.max": "max\n"},
            Limits(1048576, 4096, None, None),
        ),
        (False, {"memory.max": "max\n", "memory.current": "1\n"}, Limits(None, 1, None, None)),
        (
            True,
            {
                "memory.limit_in_bytes": "9223372036854771712\n",
                "memory.usage_in_bytes": "4096\n",
                "memory.memsw.limit_in_bytes": "8192\n",
                "memory.memsw.usage_in_bytes": "6000\n",
            },
            Limits(None, 4096, 8192, 6000),
        ),
    ],
)
def test_limits_are_those_of_the_files(
    tmp_path: Path,
    v1: bool,  # noqa: FBT001  a parameter of the table
    files: dict[str, str],
    expected: Limits,
) -> None:
    """On both versions of cgroups; no limit is none, however the kernel writes it."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="ascii")
    files_ = MemcgFiles(tmp_path, "/", v1=v1)
    assert files_.limits(Memcg(folder.stat().st_ino, "/a/b")) == expected
    assert files_.limits(Memcg(folder.stat().st_ino + 1, "/a/b")) is None


def test_a_cgroup_that_is_gone_has_no_limits(tmp_path: Path) -> None:
    """Unknown is not unlimited: there are no limits to tell at all."""
    assert MemcgFiles(tmp_path, "/", v1=False).limits(Memcg(1, "/gone")) is None


def test_a_mount_of_a_part_of_the_hierarchy(tmp_path: Path) -> None:
    """Where only a subtree is mounted, paths are below it or not to be found."""
    files = MemcgFiles(tmp_path, "/docker/abc", v1=False)
    assert files.folder(Memcg(1, "/docker/abc/x")) == tmp_path / "x"
    assert files.folder(Memcg(1, "/docker/abc")) == tmp_path
    assert files.folder(Memcg(1, "/docker/abcd")) is None
    assert files.folder(Memcg(1, "…/abc/x", path_cut=True)) is None


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
    assert MemcgFiles.find(mountinfo) == MemcgFiles(Path(mount), "/", v1=v1)


def test_no_hierarchy_is_no_error(tmp_path: Path) -> None:
    """A host without cgroups has none."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("21 24 0:19 / /proc rw - proc proc rw\n", encoding="ascii")
    assert MemcgFiles.find(mountinfo) is None


def test_a_witness_survives_the_disk() -> None:
    """What is read back is equal to what was written."""
    named = replace(WITNESS, environ={"OTEL_SERVICE_NAME": "shop"})
    for witness in (WITNESS, named, Witness(seen=False)):
        assert Witness.from_json(witness.to_json()) == witness


def test_of_a_late_kill_the_usage_is_not_told(tmp_path: Path) -> None:
    """What its cgroup uses now is not what it used then; its limit is told as it is found."""
    memcg = tmp_path / "pod"
    memcg.mkdir()
    for name, value in (("memory.max", 64), ("memory.current", 7), ("memory.swap.current", 3)):
        (memcg / name).write_text(f"{value}\n", encoding="ascii")
    where = Memcg(id=memcg.stat().st_ino, path="/pod")
    late = replace(KILL, memcg=where, capture=replace(KILL.capture, late=True))
    witness = look(late, MemcgFiles(tmp_path, "/", v1=False), tmp_path)
    assert witness.limits == Limits(limit=64, usage=None, swap_limit=None, swap_usage=None)
