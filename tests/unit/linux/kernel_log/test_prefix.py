"""Prefixes of the kernel's own text in logs that were kept elsewhere."""

from __future__ import annotations

import pytest

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.prefix import strip_prefix
from otel_oom.linux.kernel_log.report import LoggedKill
from tests.testlib.samples.log_lines import KILLED, REPORT, killed_line, parse_lines


@pytest.mark.parametrize(
    ("text", "stripped", "caller"),
    [
        ("[  T123] a b", "a b", 123),
        ("[    C1] a b", "a b", None),
        ("[   12.345678][ T1234567] a b", "a b", 1234567),
        ("<6>[    0.000000] a b", "a b", None),
        ("<6>a b", "a b", None),
        ("\x1b[32m[   12.345678] \x1b[0m\x1b[33ma \x1b[0m\x1b[31mb\x1b[0m", "a b", None),
        (
            "[   12]     0    12     1     1   0   0 x",
            "[   12]     0    12     1     1   0   0 x",
            None,
        ),
        (" frame+0x1/0x2", " frame+0x1/0x2", None),
        ("[Tx] a", "[Tx] a", None),
        ("a \x1b[31mb", "a \x1b[31mb", None),
        ("[   12.345678] \x1b[1ma\x1b[0m b", "a b", None),
        ("", "", None),
    ],
)
def test_a_prefix_is_stripped(text: str, stripped: str, caller: int | None) -> None:
    """Colour, level, time and thread; not rows of a table, which begin like a thread."""
    assert strip_prefix(Line(text, 1, 2)) == Line(stripped, 1, 2, caller)


def test_the_thread_of_a_record_is_kept() -> None:
    assert strip_prefix(Line("<4>a", 0, 0, 7)).caller == 7


def test_text_of_the_kernel_itself_is_not_stripped() -> None:
    (kill,) = parse_lines([Line(killed_line(5, "[T7] \x1b[1mx"), 0, 0, exact=True)])
    assert isinstance(kill, LoggedKill)
    assert kill.parsed.comm == "[T7] \x1b[1mx"


def test_reports_of_two_threads_are_separated_by_their_prefix() -> None:
    other = [line.replace("5356", "6000") for line in REPORT]
    woven = [
        Line(f"[{caller:>7}] {text}", 0, 0)
        for one, two in zip([*REPORT, KILLED], [*other, killed_line(6000)], strict=True)
        for caller, text in (("T5356", one), ("T6000", two))
    ]
    kills = [event for event in parse_lines(woven) if isinstance(event, LoggedKill)]
    assert [kill.parsed.pid for kill in kills] == [5356, 6000]
    for kill in kills:
        assert kill.report is not None
        assert kill.report.trigger_tid == kill.parsed.pid
        assert len(kill.report.stack) == 5
