"""Logs that a tenant made to stall replay: work is linear, memory is bounded by bytes."""

from __future__ import annotations

import gc
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import pytest

from otel_oom.capture.panic.report import BootLogTail
from otel_oom.commands.replay import boots, decompress, events, line_reader, prefilter
from otel_oom.commands.replay.deduplicate import Deduplicator
from otel_oom.commands.replay.encoding import Utf8Stream
from otel_oom.commands.replay.events import Event, EventExtractor
from otel_oom.commands.replay.formats import journal_export, json_stream
from otel_oom.commands.replay.formats.log_line import LoggedLine
from otel_oom.commands.replay.prefilter import RawLine
from otel_oom.commands.replay.timestamps import TimestampResolver
from otel_oom.linux.kernel_log.piece_joiner import MAX_CHARS
from otel_oom.model.events import Panic
from tests.testlib.samples.log_lines import KILLED, REPORT, killed_line
from tests.testlib.samples.panics import HOST_REPORT, SYSTEM_WIDE, panic_lines
from tests.testlib.samples.replay_logs import (
    ENDED_NS,
    KILL,
    ChunkedStream,
    dmesg_lines,
    format_export,
    journal_entries,
    replay,
    replay_kills,
    syslog_lines,
)


def count_calls(function: Callable[[], object]) -> int:
    """Return the number of calls that a function leads to, in Python and C."""
    count = 0

    def on_event(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    previous = sys.getprofile()
    sys.setprofile(on_event)
    try:
        function()
    finally:
        sys.setprofile(previous)
    return count


def assert_linear(work: Callable[[int], Callable[[], object]], size: int = 50) -> None:
    """Assert that four times the size is at most some five times the work."""
    small, large = (count_calls(work(factor * size)) for factor in (1, 4))
    assert large < 5 * small, (small, large)


def test_equal_lines_cost_the_same_each() -> None:
    """A container in a loop of kills, whose victim has one pid: all lines are equal."""

    def work(size: int) -> Callable[[], object]:
        lines = [f"[{second}.000000] {killed_line(7)}" for second in range(size)]
        kills = replay_kills(lines)
        assert len(kills) == size
        return lambda: add_events(kills)

    assert_linear(work)


def add_events(found: Sequence[Event]) -> int:
    deduplicator = Deduplicator()
    return sum(deduplicator.add(event) for event in found)


@pytest.mark.parametrize("text", ["Out of memory and no killable processes...", KILLED])
def test_equal_lines_without_uptimes_cost_the_same_each(text: str) -> None:
    def work(size: int) -> Callable[[], object]:
        hosts = [f"host{number % 200}" for number in range(size)]
        found = replay([line for host in hosts for line in syslog_lines([text], host=host)])
        assert len(found) == size
        return lambda: add_events(found)

    assert_linear(work)


def test_boots_cost_the_same_each() -> None:
    """A log of nothing but boots, whose lines only the file's end dates."""

    def work(size: int) -> Callable[[], object]:
        resolver = TimestampResolver(ENDED_NS)
        line = LoggedLine("dmesg", KILLED, since_boot_ns=9 * 10**9)
        positions = []
        for _ in range(size):
            resolver.start_boot()
            positions.append(resolver.add(line))
        return lambda: [resolver.resolve(position) for position in positions]

    assert_linear(work)


def test_boots_beyond_the_bound_count_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_oom.commands.replay.timestamps._MAX_BOOTS", 4)
    boot = ["[    1.000000] Linux version 6.1", f"[    9.000000] {KILLED}"]
    seconds = [(ENDED_NS - kill.time_unix_ns) // 10**9 for kill in replay_kills(boot * 6)]
    assert seconds == [27, 18, 9, 0, 0, 0]


def test_a_boot_panics_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[int] = []

    def find_panic(tail: BootLogTail) -> Panic | None:
        searches.append(len(tail.lines))
        return None

    monkeypatch.setattr(boots, "find_panic", find_panic)
    replay(dmesg_lines([*HOST_REPORT, *panic_lines(SYSTEM_WIDE), *REPORT * 20] * 20))
    assert len(searches) == 1


@pytest.mark.slow
def test_events_in_waiting_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log without a year: the end of the file dates its reports."""
    table, row = (
        "[  pid  ]   uid  tgid total_vm      rss nr_ptes name",
        "[ 1234]     0  {} 1 1 1 {}",
    )
    rows = [row.format(number, "x" * 60) for number in range(10_000, 10_600)]
    report = [*REPORT[:-1], table, *rows, REPORT[-1]]
    lines = [
        line
        for second in range(10, 40)
        for line in syslog_lines([*report, killed_line(5356 + second)], f"Nov 14 21:00:{second}")
    ]
    raws = [RawLine(line.encode(), relevant=True) for line in lines]
    monkeypatch.setattr(events, "_MAX_PENDING_BYTES", 1 << 18)
    extractor = EventExtractor(None, ENDED_NS)
    sizes: list[int] = []
    for _ in extractor.extract(_counted(raws, extractor, sizes)):
        pass
    assert max(sizes) < 1 << 19
    assert max(sizes) > 1 << 17


def _counted(raws: list[RawLine], extractor: EventExtractor, sizes: list[int]) -> Iterator[RawLine]:
    for raw in raws:
        yield raw
        sizes.append(sum(event.size_bytes for event in extractor._pending))  # noqa: SLF001  what it holds is its own


def test_the_size_of_an_event_is_that_of_its_memory() -> None:
    columns = "[  pid  ]   uid  tgid total_vm      rss nr_ptes name"
    rows = [f"[{pid:5}]     0  {pid - 1} {pid} 1 1 {'x' * 60}" for pid in range(10_000, 10_200)]
    report = [*REPORT[:-1], columns, *rows, REPORT[-1]]
    lines = [line for _ in range(10) for line in syslog_lines([*report, KILLED])]
    extractor = EventExtractor(None, ENDED_NS)
    gc.collect()
    tracemalloc.start()
    try:
        for line in lines:
            extractor._add(RawLine(line.encode(), relevant=True))  # noqa: SLF001  what it holds is its own
        extractor._boots.clear()  # noqa: SLF001  likewise
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    pending = extractor._pending  # noqa: SLF001  likewise
    assert len(pending) == 10
    assert used < 1.5 * sum(event.size_bytes for event in pending)


def test_reports_of_many_hosts_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MAX_FED_CHARS", 1 << 16)
    extractor = EventExtractor(None, ENDED_NS)
    for number in range(100):
        for line in syslog_lines(REPORT, host=f"host{number % 50}"):
            extractor._add(RawLine(line.encode(), relevant=True))  # noqa: SLF001  what it holds is its own
        held = extractor._boots.values()  # noqa: SLF001  likewise
        assert sum(boot.fed_chars for boot in held) <= 1 << 16
    assert len(extractor._boots) > 5  # noqa: SLF001  likewise
    (kill,) = replay_kills([*syslog_lines(REPORT), *syslog_lines([KILLED])])
    assert kill.memcg is not None


def test_long_lines_are_not_kept() -> None:
    extractor = EventExtractor(None, ENDED_NS)
    texts = [REPORT[0], *["x" * MAX_CHARS * 2] * 200, "y" * (MAX_CHARS * 2 + 1)]
    for line in dmesg_lines(texts):
        extractor._add(RawLine(line.encode(), relevant=True))  # noqa: SLF001  what it holds is its own
    (boot,) = extractor._boots.values()  # noqa: SLF001  likewise
    recent = boot._recent  # noqa: SLF001  likewise
    assert sum(len(line.text) for line in recent) <= 1 << 20
    assert not any(line.text.startswith("y") for line in recent)


def test_fields_with_sizes_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of the journal that has thousands of them."""
    pattern = re.compile(rb"\n(?:\n|[A-Z0-9_]{1,64}\n)")
    read = 0

    class Pattern:
        @staticmethod
        def search(data: bytes, position: int) -> re.Match[bytes] | None:
            nonlocal read
            match = pattern.search(data, position)
            read += (match.end() if match else len(data)) - position
            return match

    monkeypatch.setattr(journal_export, "_END_OR_SIZED_FIELD", Pattern)
    fields = (b"A\n" + bytes(8) + b"\n") * 5000
    data = format_export(journal_entries(KILL))[:-1] + fields + b"\n"
    entries = list(journal_export.prefilter_entries(ChunkedStream(data, 1 << 20)))
    assert len(entries) == len(KILL)
    assert read < 2 * len(data)


def test_empty_frames_take_no_memory() -> None:
    reader = decompress._ChunkReader(b"" for _ in range(100_000))  # noqa: SLF001  its own
    tracemalloc.start()
    try:
        assert reader.read(1 << 20) == b""
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 18


@pytest.mark.parametrize("code", [0, 1])
def test_a_program_may_complain_at_length(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged journal: its reader writes more errors than a pipe has space for."""
    (tmp_path / "entries").write_bytes(format_export(journal_entries(KILL)))
    program = tmp_path / "journalctl"
    program.write_text(
        f"#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x >&2\ncat {tmp_path}/entries\n"
        f"head -c 300000 /dev/zero | tr '\\0' y >&2\nexit {code}\n",
        encoding="ascii",
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    output, message = b"", ""
    with decompress.open_journals([tmp_path / "a.journal"]) as (stream, _):
        try:
            while data := stream.read(1 << 20):
                output += data
        except decompress.UnreadableFileError as error:
            message = str(error)
    assert output == (tmp_path / "entries").read_bytes()
    assert len(message) < 8192
    assert ("xxx" in message) == bool(code)


SPREAD = {
    "an array without end": (b'[\n{"message": "', b"a"),
    "a string of quotes": (b'[\n{"message": "', b'\\"'),
    "objects in objects": (b'{\n "dmesg": [', b'{"a":'),
    "arrays in arrays": (b"[{", b"["),
    "entries without a field": (b"Tue 2023-11-14 21:00:00 UTC [s=a;i=1;b=b;m=c;t=d;x=e]\n", b"x"),
    "UTF-16 without a line": (b"\xff\xfe", b"x\0"),
    "a prefix without end": (b"| ", b"CPU: 1 PID: "),
}


@pytest.mark.parametrize("name", SPREAD)
def test_a_log_without_a_newline_takes_bounded_memory(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of it takes no more: all bounds are made smaller than the log."""
    head, unit = SPREAD[name]
    monkeypatch.setattr(json_stream, "_MAX_RECORD_BYTES", 1 << 12)
    monkeypatch.setattr(prefilter, "MAX_LINE_BYTES", 1 << 12)
    monkeypatch.setattr(line_reader, "_HEAD_BYTES", 1 << 10)
    block = (unit * (1 << 11))[: 1 << 11]
    stream = decompress.LogStream(Utf8Stream(RepeatingStream(head, block, 15)), Path("log"))
    extractor = EventExtractor(None, ENDED_NS)
    tracemalloc.start()
    try:
        assert list(extractor.extract(line_reader.read_lines(stream))) == []
        assert tracemalloc.get_traced_memory()[1] < 100 << 10
    finally:
        tracemalloc.stop()


class RepeatingStream:
    """A head, and so many times a block, of which no more than one is in memory."""

    def __init__(self, head: bytes, block: bytes, times: int) -> None:
        self._head = head
        self._block = block
        self._times = times

    def read(self, size: int, /) -> bytes:
        """Return the next block, whatever the size."""
        assert size
        if self._head:
            head, self._head = self._head, b""
            return head
        self._times -= 1
        return self._block if self._times >= 0 else b""


@pytest.mark.parametrize("opening", [b'{"a":', b"[", b'"', b'{"message": "'])
def test_work_on_json_over_several_lines_is_linear(opening: bytes) -> None:
    assert_linear(lambda size: lambda: replay(b"[\n{" + opening * size * 10))
