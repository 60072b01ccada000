"""What is fuzzed: bytes as a kernel's log, line by line, into events and on to the disk's form.

A line may begin with ``@`` and a byte that says how it came: by which thread, how long after the
one before, as a piece of it, after a loss, as the kernel's own. So a corpus can be read by eye.
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


def lines(data: bytes) -> list[Line]:
    """The lines of a fuzzed log."""
    made: list[Line] = []
    time_ns = 0
    for at, raw in enumerate(data.split(b"\n")):
        how, text = 0, raw
        if raw[:1] == b"@" and len(raw) > 1:
            how, text = raw[1], raw[2:]
        time_ns += _STEPS_NS[how & 3]
        made.append(
            Line(
                text.decode("utf-8", errors="backslashreplace"),
                time_ns,
                at,
                caller=None if how & 0x0C == 0 else how & 0x0C,
                continues=how & 0xB0 == 0x90,
                after_loss=how & 0xB0 == 0xA0,
                exact=bool(how & 0x40),
            )
        )
    return made


def one(data: bytes) -> int:
    """Read a log; the number of its kills.

    Raises:
        AssertionError: something that is promised of every log does not hold.
    """
    given = lines(data)
    parser = KernelLogParser()
    told = [parser.feed(line) for line in given] + parser.finish()
    events = EventBuilder("boot", "fuzz", "file", ProcessLookup(_NOWHERE))
    kills = [event for event in told if isinstance(event, LoggedKill)]
    assert len(kills) <= len(given)
    assert len({event.line.sequence for event in kills}) == len(kills), "a line is two kills"
    for event in kills:
        assert len(event.text) <= MAX_TEXT_CHARS + (1 << 14)
        kill = events.build_kill(event, event.line.time_ns, 0)
        assert roundtrip(kill) == kill
    for other in told:
        if isinstance(other, LoggedNoVictim):
            events.build_no_victim(other, other.line.time_ns, 0)
    assert not parser.in_report
    assert parser.finish() == []
    for raw in data.split(b"\n"):
        parse_record(raw)
    return len(kills)
