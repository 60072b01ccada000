"""The mappings of real victims, compared with what the victims themselves read before."""

from __future__ import annotations

import errno
import select
import time
from pathlib import Path

import pytest

from otel_oom.capture.bpf import loader
from otel_oom.capture.bpf.hook_probe import find_refusal
from otel_oom.capture.bpf.libbpf import Libbpf, LibbpfError
from otel_oom.capture.bpf.object import BpfObject
from otel_oom.capture.bpf.pin_set import MAPPINGS_PROGRAM
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.model.events import CapturedEvent, OomKill
from tests.testlib.kernel.bpffs import mount_bpffs
from tests.testlib.kernel.kills import run_python, wait_until_killed
from tests.testlib.kernel.mappings import (
    HEAP_BYTES,
    MAP_EACH_KIND,
    MEMFD_BYTES,
    MEMFD_NAME,
    PRINT_MAPS,
    RESERVED_BYTES,
    SHARED_BYTES,
    check_mappings,
    read_maps,
)
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

LIMIT = 48 << 20
ENTER = "import sys\nopen(sys.argv[1], 'w').write('0')\n"
MAP_FILES = """
held = []
for number in range(int(sys.argv[3])):
    with open(f"{sys.argv[2]}/{number:04}", "w+b") as file:
        file.truncate((number % 50 + 1) * 4096)
        held.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
"""
MAP_MANY = """
for number in range(int(sys.argv[3])):
    prot = mmap.PROT_READ | (mmap.PROT_WRITE if number % 2 else 0)
    mmap_many = libc.mmap(None, 4096, prot, private, -1, 0)
"""
ALLOCATE = "eaten = []\nwhile True: eaten.append(bytearray(b'x' * (1 << 20)))\n"


def kill_victim(
    source: LibbpfSource, code: str, folder: Path, count: int = 0
) -> tuple[OomKill, str]:
    """Have a victim map and allocate; return its kill, and its own maps just before."""
    program = ENTER + MAP_EACH_KIND + code + PRINT_MAPS + ALLOCATE
    with own_memcg(LIMIT) as memcg, run_python(program, memcg.procs, folder, str(count)) as victim:
        assert victim.stdout
        maps = victim.stdout.read().decode()
        wait_until_killed(victim)
    kills: list[CapturedEvent] = []

    def has_kill() -> bool:
        select.select([source], [], [], 0.1)
        source.drain(kills.append)
        return any(isinstance(kill, OomKill) and kill.victim.tgid == victim.pid for kill in kills)

    wait_until(has_kill, "the kill")
    (kill,) = (k for k in kills if isinstance(k, OomKill) and k.victim.tgid == victim.pid)
    return kill, maps


def test_mappings_are_those_that_the_victim_had(tmp_path: Path) -> None:
    with LibbpfSource() as source:
        kill, maps = kill_victim(source, "", tmp_path)
    mappings = kill.mappings
    assert mappings is not None
    assert mappings.skipped == 0
    sizes = {(each.kind, each.name): each.size for each in mappings.largest}
    assert sizes["reserved", ""] >= RESERVED_BYTES
    assert sizes["heap", ""] >= HEAP_BYTES
    assert sizes["shmem", "dev/zero"] == SHARED_BYTES
    assert sizes["shmem", f"memfd:{MEMFD_NAME}"] == MEMFD_BYTES
    assert [each.size for each in mappings.largest[:-1]] == sorted(
        (each.size for each in mappings.largest[:-1]), reverse=True
    )
    check_mappings(mappings.largest, maps)


def test_more_names_than_entries(tmp_path: Path) -> None:
    """The large ones are listed, whatever their order; of the others there is the sum."""
    with LibbpfSource() as source:
        kill, maps = kill_victim(source, MAP_FILES, tmp_path, 300)
    assert kill.mappings is not None
    assert kill.mappings.skipped == 0
    listed = kill.mappings.largest
    expected = read_maps(maps)
    assert len(expected) > 300
    files = {each.name: (each.size, each.count) for each in listed if each.name.isdecimal()}
    for name, value in files.items():
        assert value == expected["file", name]
    total = sum(size for size, _ in expected.values())
    assert sum(each.size for each in listed) >= total
    assert sum(each.count for each in listed) == kill.mappings.count >= 300
    assert listed[-1].kind == "other"
    assert {"libc.so.6", "dev/zero", f"memfd:{MEMFD_NAME}"} <= {each.name for each in listed}


def test_a_walk_over_very_many_mappings_ends(tmp_path: Path) -> None:
    """The kill has all else, and says how many mappings were not visited."""
    with LibbpfSource() as source:
        kill, maps = kill_victim(source, MAP_MANY, tmp_path, 20_000)
    count = sum(number for _, number in read_maps(maps).values())
    assert kill.mappings is not None
    assert kill.mappings.count >= count > 20_000
    visited = kill.mappings.count - kill.mappings.skipped
    assert 1_000 <= visited <= 2_048
    assert sum(each.count for each in kill.mappings.largest) == visited
    assert kill.memory is not None
    assert kill.victim.comm is not None


def test_without_bpf_loop_only_the_mappings_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on kernels before 5.17: the hooks are the same, and so is the rest of the record."""
    with LibbpfSource() as source:
        whole, _ = kill_victim(source, "", tmp_path)
        hooks = source.hook, source.decision_source

    def refuse_loop(library: Libbpf, hook: str) -> str | None:
        return "no bpf_loop()" if hook.startswith("bpf_loop") else find_refusal(library, hook)

    monkeypatch.setattr(loader, "find_refusal", refuse_loop)
    with LibbpfSource() as source:
        assert source.unavailable["bpf_loop/mark_victim"] == "no bpf_loop()"
        assert (source.hook, source.decision_source) == hooks
        kill, _ = kill_victim(source, "", tmp_path)
    assert whole.mappings is not None
    assert kill.mappings is None
    assert kill.victim.executable == whole.victim.executable
    assert kill.victim.start is not None
    assert (kill.memory is None, kill.decision is None, kill.stack == ()) == (
        whole.memory is None,
        whole.decision is None,
        whole.stack == (),
    )


def test_a_kernel_that_rejects_the_program_loads_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = BpfObject.attach

    def reject(opened: BpfObject, program: str) -> None:
        if program == MAPPINGS_PROGRAM:
            raise LibbpfError(f"{program} can't be attached", errno.EINVAL)
        attach(opened, program)

    monkeypatch.setattr(BpfObject, "attach", reject)
    with LibbpfSource() as source:
        assert "mark_victim_mappings" in source.unavailable["bpf_loop/mark_victim"]
        assert source.hook == "tp_btf/mark_victim"
        kill, _ = kill_victim(source, "", tmp_path)
    assert kill.mappings is None
    assert kill.memory is not None


def test_mappings_outlive_the_process_that_attached(tmp_path: Path) -> None:
    """A kill while no agent runs has them, too."""
    with mount_bpffs(tmp_path / "bpffs") as mounted:
        pin_dir = mounted / "otel-oom"
        with LibbpfSource(pin_dir=pin_dir):
            pass
        program = ENTER + MAP_EACH_KIND + PRINT_MAPS + ALLOCATE
        with own_memcg(LIMIT) as memcg, run_python(program, memcg.procs) as victim:
            wait_until_killed(victim)
        kills: list[CapturedEvent] = []
        with LibbpfSource(pin_dir=pin_dir) as source:
            time.sleep(0.1)
            source.drain(kills.append)
    (kill,) = (k for k in kills if isinstance(k, OomKill) and k.victim.tgid == victim.pid)
    assert kill.capture.recovered
    assert kill.mappings is not None
