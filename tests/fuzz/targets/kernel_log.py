"""Bytes as a kernel log, parsed into events and encoded for the store.

A line may begin with ``@`` and a byte of options: its thread, its distance in time, whether it is a
piece, follows a loss, or is the kernel's own. So a corpus is readable text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_oom.capture.kmsg.reader import parse_record
from otel_oom.linux.kernel_log.event_builder import EventBuilder
from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from otel_oom.linux.kernel_log.report import LoggedKill, LoggedNoVictim
from otel_oom.linux.kernel_log.report_text import MAX_TEXT_CHARS
from otel_oom.linux.process_lookup import ProcessLookup
from tests.testlib.samples.events import roundtrip

_NOWHERE: Final = Path("/nonexistent")
_STEPS_NS: Final = (1_000_000, 0, 400_000_000, 70_000_000_000)


def split_lines(data: bytes) -> list[Line]:
    """Return the lines of a fuzzed log."""
    result: list[Line] = []
    time_ns = 0
    for sequence, raw in enumerate(data.split(b"\n")):
        options, text = 0, raw
        if raw[:1] == b"@" and len(raw) > 1:
            options, text = raw[1], raw[2:]
        time_ns += _STEPS_NS[options & 3]
        result.append(
            Line(
                text.decode("utf-8", errors="backslashreplace"),
                time_ns,
                sequence,
                caller=None if options & 0x0C == 0 else options & 0x0C,
                continues=options & 0xB0 == 0x90,
                after_loss=options & 0xB0 == 0xA0,
                exact=bool(options & 0x40),
            )
        )
    return result


def check_input(data: bytes) -> None:
    """Parse a log and check what holds for any log."""
    lines = split_lines(data)
    parser = KernelLogParser()
    events = [parser.feed(line) for line in lines] + parser.finish()
    builder = EventBuilder("boot", "fuzz", "file", ProcessLookup(_NOWHERE))
    kills = [event for event in events if isinstance(event, LoggedKill)]
    assert len(kills) <= len(lines)
    assert len({event.line.sequence for event in kills}) == len(kills), "a line is two kills"
    for event in kills:
        assert len(event.text) <= MAX_TEXT_CHARS + (1 << 14)
        kill = builder.build_kill(event, event.line.time_ns, 0)
        assert roundtrip(kill) == kill
    for failed in [event for event in events if isinstance(event, LoggedNoVictim)]:
        builder.build_no_victim(failed, failed.line.time_ns, 0)
    assert not parser.in_report
    assert parser.finish() == []
    for raw in data.split(b"\n"):
        parse_record(raw)
