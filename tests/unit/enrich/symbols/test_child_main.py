"""Files of a tenant that cost as much as possible, read within one budget."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_oom.enrich.symbols import candidates
from otel_oom.enrich.symbols.candidates import Candidates
from otel_oom.enrich.symbols.child import SymbolChild
from otel_oom.enrich.symbols.child_main import find_frame_symbols
from otel_oom.enrich.symbols.request import NO_SYMBOL, FrameKey, FrameSymbol, SymbolRequest
from otel_oom.linux.elf import ReadBudget, read_elf
from tests.testlib.hostile_elf import BUILD_ID, many_notes, many_symbols

FRAME = FrameKey(BUILD_ID, 0x1000, behind_call=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory of a container without libraries."""
    (tmp_path / "lib").mkdir()
    return tmp_path


@contextmanager
def open_candidates(
    root: Path, *frames: FrameKey, budget: ReadBudget | None = None
) -> Iterator[Candidates]:
    request = SymbolRequest(frames, (), (), (str(root),), str(root))
    opened = Candidates(request, budget or ReadBudget())
    try:
        yield opened
    finally:
        for fd in (*(file.fd for file in opened.files), *opened.debug_files):
            os.close(fd)


def build_ids(count: int) -> list[bytes]:
    return [bytes([number]) * 20 for number in range(1, count + 1)]


@pytest.mark.parametrize("segments", [1023, 128])
def test_notes_at_one_place_are_read_a_few_times(root: Path, segments: int) -> None:
    """Each segment was read to its end: 64 KiB of file took 95 ms."""
    path = root / "lib/libnotes.so"
    path.write_bytes(many_notes(segments))
    budget = ReadBudget(max_bytes=32 << 10)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert read_elf(fd, budget) is None
    finally:
        os.close(fd)
    assert not budget.is_spent


def test_links_to_one_file_are_one_file(root: Path) -> None:
    """Read once for each link, it took 194 s for each kill."""
    (root / "lib/lib0.so").write_bytes(many_notes())
    for number in range(1, 200):
        (root / f"lib/lib{number}.so").hardlink_to(root / "lib/lib0.so")
    (root / "lib64").symlink_to("lib")
    with open_candidates(root, FRAME) as opened:
        assert len(opened.files) == 1
        assert find_frame_symbols((FRAME,), opened, ReadBudget()) == [NO_SYMBOL]


def test_files_are_bounded_in_number(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One root may have half of them, all directories together."""
    monkeypatch.setattr(candidates, "MAX_FILES", 40)
    for folder in ("lib", "usr/lib", "lib64", "usr/lib64"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(20):
            (root / f"{folder}/lib{number}.so").write_bytes(b"x")
    with open_candidates(root, FRAME) as opened:
        assert len(opened.files) == 20


def test_all_files_share_one_budget_of_bytes(root: Path) -> None:
    """What was found before it was spent is kept."""
    frames = tuple(FrameKey(each, 0x1000, behind_call=False) for each in build_ids(16))
    for number, frame in enumerate(frames):
        content = many_symbols(2000, frame.build_id)
        (root / f"lib/lib{number:02}.so").write_bytes(content)
    budget = ReadBudget(max_bytes=400_000)
    with open_candidates(root, *frames) as opened:
        symbols = find_frame_symbols(frames, opened, budget)
    assert budget.is_spent
    named = [symbol for symbol in symbols if symbol.function == b"f"]
    assert 1 <= len(named) < 16
    assert all(symbol.file.startswith(b"/lib/lib") for symbol in named)


def test_no_file_is_read_once_time_is_spent(root: Path) -> None:
    (root / "lib/lib.so").write_bytes(many_symbols(10))
    spent = ReadBudget(cpu_s=-1)
    with open_candidates(root, FRAME, budget=spent) as opened:
        assert opened.files == []
    with open_candidates(root, FRAME) as opened:
        assert find_frame_symbols((FRAME,), opened, spent) == [NO_SYMBOL]
        assert find_frame_symbols((FRAME,), opened, ReadBudget()) == [
            FrameSymbol(b"/lib/lib.so", b"f", 0)
        ]


@pytest.mark.slow
def test_a_process_for_huge_tables_ends_by_itself(root: Path) -> None:
    """Sixteen sparse files with two tables of a terabyte each."""
    frames = tuple(FrameKey(each, 0x1000, behind_call=False) for each in build_ids(16))
    for number, frame in enumerate(frames):
        path = root / f"lib/lib{number:02}.so"
        path.write_bytes(many_symbols(1, frame.build_id, table_bytes=1 << 40))
        os.truncate(path, 1 << 35)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = SymbolChild()
    symbols = child.run(SymbolRequest(frames, (), (), (str(root),), str(root)), timeout_s=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert symbols is not None
    assert symbols.count(NO_SYMBOL) >= 1
    assert symbols.count(NO_SYMBOL) < 16
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
