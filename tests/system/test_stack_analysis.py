"""Real kills by each type of memory, which is recognized by the kernel stack."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.enrich.stack_analysis import StackAnalysis, analyse_stack
from otel_oom.model.events import OomKill
from tests.testlib.kernel.kills import run_python
from tests.testlib.kernel.memcg import own_memcg

pytestmark = pytest.mark.usefixtures("real_kills")

ENTER_CGROUP = "import mmap, os, sys\nopen(sys.argv[1], 'w').write('0')\n"

PROGRAMS = {
    "anonymous": "held = b'x' * (96 << 20)\n",
    "shmem": (
        "held = mmap.mmap(-1, 96 << 20)\nfor at in range(0, len(held), 4096): held[at] = 1\n"
    ),
    "tmpfs": (
        "file = os.memfd_create('x')\nfor _ in range(96): os.write(file, b'x' * (1 << 20))\n"
    ),
    # Locked in memory: the kernel evicts other page cache before it kills.
    "page_cache": "libc.mlock(ctypes.c_void_p(at), ctypes.c_size_t(size))\n",
    # Reading maps the shared page of zeros; only the page tables are charged.
    "page_table": (
        "held = mmap.mmap(-1, 64 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000,\n"
        "                 mmap.PROT_READ)\n"
        "held.madvise(mmap.MADV_NOHUGEPAGE)\n"
        "for at in range(0, len(held), 2 << 20): held[at]\n"
    ),
    "pipe": (
        "for _ in range(500):\n"
        "    out = os.pipe()[1]\n"
        "    os.set_blocking(out, False)\n"
        "    os.write(out, b'x' * (1 << 16))\n"
    ),
}


BEFORE: Final = {
    # One page of each page table is mapped before it enters; the rest is page cache only.
    "page_cache": (
        "import ctypes, mmap, os, sys\n"
        "file = os.open(sys.argv[2], os.O_RDONLY)\n"
        "size = os.fstat(file).st_size\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3\n"
        "libc.mmap.argtypes += [ctypes.c_long]\n"
        "at = libc.mmap(None, size, 1, 1, file, 0)\n"
        "libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), mmap.MADV_RANDOM)\n"
        "for page in range(at, at + size, 1 << 20): ctypes.string_at(page, 1)\n"
    ),
}


@pytest.fixture(scope="module")
def file_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write a file larger than the limit, and evict it from the page cache."""
    path = tmp_path_factory.mktemp("cache") / "file"
    with path.open("wb") as file:
        for _ in range(96):
            file.write(b"x" * (1 << 20))
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    yield path
    path.unlink()


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("anonymous", StackAnalysis("memcg", "anonymous", "page_fault")),
        ("shmem", StackAnalysis("memcg", "shmem", "page_fault")),
        ("tmpfs", StackAnalysis("memcg", "shmem", "write")),
        ("page_cache", StackAnalysis("memcg", "page_cache", "mlock")),
        ("page_table", StackAnalysis("memcg", "page_table", "page_fault")),
        ("pipe", StackAnalysis("memcg", "kernel", "write")),
    ],
)
def test_memory_type_and_entry_point_are_recognized(
    program: str, expected: StackAnalysis, file_on_disk: Path
) -> None:
    """A program that allocates one type of memory is killed for that, in that system call."""
    kills: list[OomKill] = []
    with LibbpfSource() as source, own_memcg(24 << 20) as memcg:
        source_code = BEFORE.get(program, "") + ENTER_CGROUP + PROGRAMS[program]
        with run_python(source_code, memcg.procs, file_on_disk) as process:
            code = process.wait(60)
        source.drain(lambda event: kills.append(event) if isinstance(event, OomKill) else None)
    assert code == -signal.SIGKILL
    (kill,) = (kill for kill in kills if kill.victim.tgid == process.pid)
    assert analyse_stack(kill.stack) == expected, "\n".join(kill.stack)


def test_frames_are_kernel_functions_without_addresses() -> None:
    kills: list[OomKill] = []
    with LibbpfSource() as source, own_memcg() as memcg:
        with run_python(ENTER_CGROUP + PROGRAMS["anonymous"], memcg.procs) as process:
            process.wait(30)
        source.drain(lambda event: kills.append(event) if isinstance(event, OomKill) else None)
    symbols = Path("/proc/kallsyms").read_text(encoding="ascii")
    functions = {line.split()[2] for line in symbols.splitlines()}
    assert kills[0].stack[0].startswith("mark_oom_victim+0x")
    for frame in kills[0].stack:
        name, _, offset = frame.partition("+")
        assert name in functions
        assert int(offset.split()[0], 16) < 1 << 20
