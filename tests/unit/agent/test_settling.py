"""The memory of an agent that has started."""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Event

import pytest

from otel_oom.agent import memory, settling
from otel_oom.agent.settling import MemorySettling
from otel_oom.linux import heap
from otel_oom.store import Store
from tests.testlib.command import clean_environ

RELEASE = """
import decimal, sqlite3, sys
from pathlib import Path
from otel_oom.agent import memory

def read_kb(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

before = read_kb("RssFile"), read_kb("RssAnon")
memory.release_file_pages()
after = read_kb("RssFile"), read_kb("RssAnon")
compile("x = 1", "x", "exec")
assert str(decimal.Decimal(1) / 3).startswith("0.33")
assert sqlite3.connect(":memory:").execute("SELECT 1 + 1").fetchone() == (2,)
print(*before, *after)
"""


def run_numbers(program: str) -> list[int]:
    """Run a program in a process of its own; return the numbers that it prints."""
    command = [sys.executable, "-c", program]
    output = subprocess.check_output(command, env=clean_environ(), text=True)
    return [int(word) for word in output.split()]


def test_pages_of_libraries_are_released_and_come_back() -> None:
    file_before, anon_before, file_after, anon_after = run_numbers(RELEASE)
    assert file_after < file_before - 1000
    assert anon_after > anon_before - 100, "pages that the dynamic linker changed stay"


@pytest.mark.parametrize("parts", [1, 2])
def test_memory_is_locked_once_all_parts_have_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    calls: list[str] = []
    locked = Event()

    def lock_memory() -> bool:
        calls.append("lock")
        locked.set()
        return True

    monkeypatch.setattr(settling, "_DELAY_S", 0.0)
    monkeypatch.setattr(memory, "release_file_pages", lambda: calls.append("release"))
    monkeypatch.setattr(heap, "trim_heap", lambda: calls.append("trim"))
    monkeypatch.setattr(memory, "lock_memory", lock_memory)
    monkeypatch.setattr(memory, "unlock_memory", lambda: calls.append("unlock"))
    monkeypatch.setattr(settling, "rehearse_kill", lambda _: calls.append("rehearse"))
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    monkeypatch.setattr(gc, "collect", lambda: calls.append("collect"))
    with Store(tmp_path / "state") as store:
        settled = MemorySettling(store, parts)
        for _ in range(parts):
            assert calls == []
            settled.finish_part()
        assert locked.wait(10)
        settled.finish_part()
        assert calls == ["release", "freeze", "collect", "trim", "rehearse", "lock"]
        del calls[:]
        settled.return_heap()
        assert calls == ["collect", "unlock", "trim", "lock"]


def test_a_store_that_is_closed_soon_is_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock would keep the next agent out."""
    monkeypatch.setattr(settling, "_DELAY_S", 0.02)
    monkeypatch.setattr(memory, "release_file_pages", lambda: time.sleep(0.02))
    monkeypatch.setattr(memory, "lock_memory", lambda: True)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    for early_s in (0, 0.03):
        with Store(tmp_path) as store:
            settled = MemorySettling(store, 1)
            settled.finish_part()
            time.sleep(early_s)
            settled.stop()
        time.sleep(0.06)


def test_a_library_that_is_just_loaded_keeps_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dynamic linker maps all of a file at first, and its data later within."""

    def load(name: str) -> mmap.mmap:
        file = tmp_path / name
        file.write_bytes(bytes(1 << 16))
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        assert not any(mapped[:])
        return mapped

    def read_resident(name: str) -> int:
        lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines())
        next(line for line in lines if line.endswith(f"{tmp_path}/{name}"))
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))

    with load("before"), ExitStack() as meanwhile:
        monkeypatch.setattr(time, "sleep", lambda _: meanwhile.enter_context(load("new")))
        memory.release_file_pages()
        assert (read_resident("before"), read_resident("new")) == (0, 64)


RETURN = """
import sys
from otel_oom.agent import memory
from otel_oom.agent.settling import MemorySettling

def read_kb(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

settled = MemorySettling(None, 1)
burst = [bytes(2000) for _ in range(10_000)]
scattered = burst[::100]
settled._is_locked = memory.lock_memory()
del burst
before, locked = read_kb("RssAnon"), read_kb("VmLck")
settled.return_heap()
print(before, read_kb("RssAnon"), locked, read_kb("VmLck"))
"""


def test_what_a_burst_left_in_a_locked_heap_is_returned() -> None:
    before, after, locked, locked_again = run_numbers(RETURN)
    assert after < before - 15_000
    assert (locked > 0) == (locked_again > 0)
