"""The stack of a report, as each architecture prints it and each daemon stores it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from otel_oom.linux.kernel_log.stack_frames import parse_frame
from tests.testlib.samples.log_lines import KILLED, REPORT, parse_kills
from tests.testlib.samples.replay_logs import dmesg_lines, replay_kills
from tests.testlib.samples.stack_formats import STACK_FORMATS, StackFormat

_STORED: dict[str, Callable[[str], str]] = {
    "as printed": str,
    "without blanks around": str.strip,
    "with a blank at the end": lambda line: f"{line} ",
}


def report_with(lines: tuple[str, ...]) -> list[str]:
    begin, end = REPORT.index("Call Trace:"), REPORT.index(" </TASK>")
    return [*REPORT[:begin], *lines, *REPORT[end + 1 :], KILLED]


@pytest.mark.parametrize("stored", _STORED)
@pytest.mark.parametrize("form", STACK_FORMATS, ids=lambda form: f"{form.architectures}")
def test_a_stack_runs_from_the_decision_outwards(form: StackFormat, stored: str) -> None:
    lines = report_with(tuple(_STORED[stored](line) for line in form.lines))
    (kill,) = parse_kills(lines)
    assert kill.report is not None
    assert kill.report.stack == form.frames
    assert kill.report.memcg_usage is not None
    (replayed,) = replay_kills(dmesg_lines(lines))
    assert replayed.stack == form.frames


@pytest.mark.parametrize(
    "text",
    [
        " ? oom_kill_process+0x1a4/0x1c0",
        "([<00000000001128f2>] oom_kill_process+0x1a4/0x1c0)",
        "[c0000003f4a7f920] [c00000000037a1bc] oom_kill_process+0x1a4/0x1c0 (unreliable)",
        "RIP: 0010:oom_kill_process+0x1a4/0x1c0",
        "PC is at oom_kill_process+0x1a4/0x1c0",
        "a job came from oom_kill_process",
        "oom_kill_process+0x1a4",
        "[ 4242] oom_kill_process+0x1a4/0x1c0",
        f"{'x' * 121}+0x1/0x2",
        "x from " * 1000,
    ],
)
def test_an_uncertain_frame_is_none(text: str) -> None:
    assert parse_frame(text) is None


def test_a_stack_of_another_task_is_not_the_reports() -> None:
    """Without a header, only the lines directly after the allocating task are its stack."""
    other = "[<c033e4ac>] (oom_kill_process) from [<c033eddc>] (schedule+0x108/0x3c0)"
    (kill,) = parse_kills([*report_with(()), other])
    assert kill.report is not None
    assert kill.report.stack == ()
    lines = report_with(())
    index = next(i for i, line in enumerate(lines) if line.startswith("memory: "))
    (kill,) = parse_kills([*lines[: index + 1], other, *lines[index + 1 :]])
    assert kill.report is not None
    assert kill.report.stack == ()


def test_a_stack_may_follow_the_first_line() -> None:
    """Before 2.6.27 no line of the allocating task is between, on 32 bits no header either."""
    header = "df_inode invoked oom-killer: gfp_mask=0xd0, order=0, oomkilladj=0"
    stack = [" [<c01408cb>] out_of_memory+0x69/0x18e", " [<c0141eca>] __alloc_pages+0x1fc/0x283"]
    killed = "Out of memory: kill process 700 (make) score 4711 or a child"
    (kill,) = parse_kills([header, *stack, "Mem-info:", killed, "Killed process 811 (cc1)"])
    assert kill.report is not None
    assert kill.report.stack == ("out_of_memory+0x69", "__alloc_pages+0x1fc")
