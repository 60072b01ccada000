"""The programs that keep the kernel log, each with its format of lines.

They are the other side of the table of formats. Each gets texts as the kernel prints them; the
formats are those of the programs' manuals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tests.testlib.samples.replay_logs import (
    dmesg_lines,
    format_export,
    format_json,
    journal_entries,
    syslog_lines,
)

Producer = Callable[[Sequence[str]], bytes | list[str]]


def _timed(texts: Sequence[str]) -> list[str]:
    return [f"[  100.{at:06}] {text}" for at, text in enumerate(texts)]


def _each(form: str) -> Producer:
    """Return a producer that writes each line with its text in place of the braces."""
    return lambda texts: [form.replace("{}", text) for text in texts]


PRODUCERS: Final[dict[str, Producer]] = {
    "kern.log, syslog": lambda texts: syslog_lines(_timed(texts)),
    "messages": syslog_lines,
    "syslog, RFC 3339": _each("2023-11-14T21:00:00.5+01:00 db1 kernel: {}"),
    "syslog, RFC 5424": _each("<4>1 2023-11-14T21:00:00Z db1 kernel - - - {}"),
    "dmesg": dmesg_lines,
    "dmesg -r, pstore": lambda texts: [f"<4>{line}" for line in dmesg_lines(texts)],
    "dmesg -x": lambda texts: [f"kern  :warn  : {line}" for line in dmesg_lines(texts)],
    "dmesg -T": _each("[Tue Nov 14 21:00:00 2023] {}"),
    "dmesg --time-format iso": _each("2023-11-14T21:00:00,000000+00:00 {}"),
    "journalctl -k": _each("Nov 14 21:00:00 db1 kernel: {}"),
    "journalctl -o short-precise": _each("Nov 14 21:00:00.123456 db1 kernel: {}"),
    "journalctl -o short-iso": _each("2023-11-14T21:00:00+0000 db1 kernel: {}"),
    "journalctl -o short-full": _each("Tue 2023-11-14 21:00:00 UTC db1 kernel: {}"),
    "journalctl -o short-monotonic": _each("[  100.000000] db1 kernel: {}"),
    "journalctl -o json": lambda texts: format_json(journal_entries(texts)),
    "journalctl -o export": lambda texts: format_export(journal_entries(texts)),
    "containers, CRI": _each("2023-11-14T21:00:00.5Z stdout F [  100.000000] {}"),
    "text alone": list,
}
