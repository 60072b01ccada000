"""Containers of lines: which lines of a stream matter, and which fields are an entry's own."""

from __future__ import annotations

import time

from otel_oom.model.units import NS_PER_S
from tests.testlib.samples.log_lines import KILLED
from tests.testlib.samples.replay_logs import journal_entries, replay, replay_kills

HEADER = "Tue 2023-11-14 21:00:00.000000 UTC [s=aa;i=1;b=bb;m=cc;t=dd;x=ee]"


def test_a_kill_long_after_the_minute_has_its_time() -> None:
    """No line between the minute and the kill has a sign of one."""
    others = [f"[  +0.001000] usb 1-{number}: new device" for number in range(3000)]
    lines = ["[Nov14 20:00] usb 1-1: x", "[Nov14 20:59] usb 1-1: x", *others]
    (kill,) = replay_kills([*lines, f"[  +0.000001] {KILLED}", "[Nov14 21:30] usb 1-1: x"])
    local = time.localtime(kill.time_unix_ns // NS_PER_S)
    assert (local.tm_hour, local.tm_min, local.tm_sec) == (20, 59, 3)


def test_a_value_of_several_lines_forges_no_field_of_a_verbose_entry() -> None:
    """journalctl indents the lines of a value deeper than the fields."""
    (entry,) = journal_entries([KILLED], _TRANSPORT="syslog")
    del entry["_TRANSPORT"]
    fields = [f"    {name}={value}" for name, value in entry.items() if name[:2] != "__"]
    forged = ["    CODE=x", "         _TRANSPORT=kernel", "    _TRANSPORT=syslog"]
    assert replay([HEADER, *fields, *forged]) == []
    assert replay([HEADER, *fields, "    _TRANSPORT=kernel"]) != []
