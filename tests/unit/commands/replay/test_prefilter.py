"""The prefilter: all lines near a kill, in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest

from otel_oom.commands.replay import prefilter
from otel_oom.commands.replay.formats import journal_export
from tests.testlib.samples.replay_logs import KILL, ChunkedStream, format_export, journal_entries

PLAIN = [f"line {number} of something else" for number in range(2000)]


def _relevant(data: bytes, piece: int = 1 << 20) -> list[str]:
    raws = prefilter.prefilter_lines(prefilter.read_blocks(ChunkedStream(data, piece)))
    return [raw.text.decode() for raw in raws if raw.relevant]


def _joined(*texts: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for part in texts for line in part).encode()


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 4096, 1 << 20])
def test_a_report_is_passed_on_wherever_a_block_ends(piece: int) -> None:
    data = _joined(PLAIN[:50], KILL, PLAIN[50:90], KILL[-1:], PLAIN[90:])
    assert _relevant(data, piece) == [*KILL, KILL[-1]]


def test_the_last_line_of_a_skipped_part_is_passed_on() -> None:
    raws = list(
        prefilter.prefilter_lines(
            prefilter.read_blocks(ChunkedStream(_joined(PLAIN, KILL, PLAIN), 1 << 20))
        )
    )
    assert [raw.text.decode() for raw in raws if not raw.relevant] == [PLAIN[-1], PLAIN[-1]]


def test_a_last_line_without_an_end_counts() -> None:
    assert _relevant(_joined(PLAIN, KILL)[:-1], 100) == [*KILL]


def test_a_report_without_a_kill_ends() -> None:
    data = KILL[0].encode() + b"\n" + b"x\n" * 200_000
    assert len(_relevant(data)) < 70_000


@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_a_line_of_a_gigabyte_costs_a_bounded_memory(newline: bytes) -> None:
    class Long:
        left = 1 << 10
        block = b"Killed process " * (1 << 16)

        def read(self, size: int, /) -> bytes:
            self.left -= 1
            if self.left >= 0:
                return self.block[:size]
            return b"" if self.left < -1 or not newline else newline + _joined(KILL)

    tracemalloc.start()
    try:
        raws = [
            raw for raw in prefilter.prefilter_lines(prefilter.read_blocks(Long())) if raw.relevant
        ]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [raw.text.decode() for raw in raws] == ([*KILL] if newline else [])
    assert peak < 16 << 20


def _messages(data: bytes, piece: int = 1 << 20) -> list[str]:
    raws = journal_export.prefilter_entries(ChunkedStream(data, piece))
    found = [journal_export.parse_fields(raw.text).get("MESSAGE") for raw in raws]
    return [message.decode() for message in found if message is not None]


def _counted(name: str, value: bytes) -> bytes:
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


@pytest.mark.parametrize("piece", [1, 3, 100, 1 << 20])
def test_entries_are_found_wherever_a_block_ends(piece: int) -> None:
    data = format_export(journal_entries([*PLAIN[:20], *KILL, *PLAIN[:20]]))
    assert _messages(data, piece) == [*KILL]
    assert _messages(data.removesuffix(b"\n"), piece) == [*KILL]


@pytest.mark.parametrize("piece", [1, 5, 1 << 20])
def test_an_entry_within_a_field_is_no_entry(piece: int) -> None:
    forged = b"\n\n" + format_export(journal_entries(["forged: Killed process 1 (a)"]))
    forged += b"x" * (ord("\n") - len(forged) % 256 + 256)
    inner = format_export(journal_entries(["hello"], _TRANSPORT="stdout"))[:-1] + _counted(
        "MORE", forged
    )
    data = (
        format_export(journal_entries(PLAIN[:2]))
        + inner
        + b"\n"
        + format_export(journal_entries(KILL))
    )
    assert _messages(data, piece) == ["hello", *KILL]


def test_a_field_of_a_gigabyte_costs_a_bounded_memory() -> None:
    before = format_export(journal_entries(["a core dump"]))[:-1]
    size = 1 << 30
    behind = b"\n\n" + format_export(journal_entries(KILL))

    class Large:
        def __init__(self) -> None:
            self.parts = [before + b"COREDUMP\n" + size.to_bytes(8, "little")]
            self.left = size >> 20
            self.block = b"\n\n__CURSOR=" + bytes((1 << 20) - 11)

        def read(self, _: int, /) -> bytes:
            if self.parts:
                return self.parts.pop()
            self.left -= 1
            return self.block if self.left >= 0 else behind if self.left == -1 else b""

    tracemalloc.start()
    try:
        raws = list(journal_export.prefilter_entries(Large()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [journal_export.parse_fields(raw.text)["MESSAGE"].decode() for raw in raws] == [*KILL]
    assert peak < 16 << 20


@pytest.mark.slow
@pytest.mark.parametrize("piece", [1, 1000])
def test_an_export_that_is_cut_off_ends(piece: int) -> None:
    whole = format_export(journal_entries(KILL[:3])) + b"A=b\n" + _counted("MESSAGE", b"x" * 50)
    for cut in range(len(whole)):
        messages = _messages(whole[:cut], piece)
        assert messages == [*KILL[: len(messages)]]


def test_a_size_beyond_all_bounds_ends_the_file() -> None:
    data = format_export(journal_entries(KILL)) + b"MESSAGE\n" + b"\xff" * 8 + b"x" * 1000
    assert _messages(data) == [*KILL]
