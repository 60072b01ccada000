"""The heap of the agent's threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.testlib.command import clean_environ

_THREADS = """
import sys, threading
from pathlib import Path
from otel_oom.linux import heap

def read_address_space_kb():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmSize:"))

if sys.argv[1:]:
    heap.share_heap()
before, end = read_address_space_kb(), threading.Event()
started = threading.Barrier(5)

def allocate():
    kept = [bytes(2000) for _ in range(10)]
    started.wait()
    end.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
started.wait()
print(read_address_space_kb() - before)
end.set()
"""

_BURST = """
import sys
from pathlib import Path
from otel_oom.linux import heap

def read_resident_kb():
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

bytes(12 << 20)
read_resident_kb()
if sys.argv[1:]:
    heap.bound_free_heap()
before = read_resident_kb()
blocks = [b""] * 200
for number in range(200):
    blocks[number] = bytes(50_000)
del blocks
print(read_resident_kb() - before)
"""

_HEAP_KB = 64 << 10
"""The address space that glibc reserves for a heap of a thread; a stack has an eighth of it."""


def run_program(program: str, *arguments: str) -> int:
    """Run a program in a process of its own; return the number that it prints."""
    command = [sys.executable, "-c", program, *arguments]
    return int(subprocess.check_output(command, env=clean_environ(), text=True))


@pytest.mark.parametrize("shared", [True, False])
def test_threads_share_the_heap(shared: bool) -> None:  # noqa: FBT001  a parameter
    added_kb = run_program(_THREADS, *(["shared"] if shared else []))
    assert (added_kb < _HEAP_KB) == shared, added_kb


@pytest.mark.parametrize("bounded", [True, False])
def test_the_free_end_of_the_heap_is_returned(bounded: bool) -> None:  # noqa: FBT001  likewise
    """Even after a large block, which raises the C library's own limit."""
    kept_kb = run_program(_BURST, *(["bounded"] if bounded else []))
    assert (kept_kb < 2000) == bounded, kept_kb
