"""Lines of the kernel log as syslog(2) and pstore have them: ``<6>[   12.345678][  T123] text``.

``info_print_prefix()`` of kernel/printk/printk.c writes the prefix before each line of a record.
The time is missing with ``printk.time=0``, the printing thread without CONFIG_PRINTK_CALLER.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.model.text import decode_bytes
from otel_oom.model.units import NS_PER_S, NS_PER_US

_LINE: Final = re.compile(
    rb"<(?P<level>\d{1,4})>(?:\[ {0,9}(?P<s>\d{1,9})\.(?P<us>\d{6})\])?"
    rb"(?:\[ {0,9}(?:T(?P<caller>\d{1,10})|C\d{1,10})\])? ?(?P<text>.*)",
    re.DOTALL,
)
_FACILITY_SHIFT: Final = 3

CONTINUATIONS: Final = (
    *(",cpuset=", ",mems_allowed=", ",global_oom,", ",oom_memcg=", ",task_memcg=", ",task="),
    " are going to be killed due to",
)
"""Beginnings of the second part of a long line; only /dev/kmsg marks such a part as one."""


class SyslogLine(Struct, frozen=True):
    """A line and its prefix; ``time_us`` is ``None`` where the log has no times."""

    prefix: bytes
    text: bytes
    level: int
    time_us: int | None
    caller: int | None

    @property
    def is_kernel(self) -> bool:
        """Whether the kernel printed it: user space can't write under the kernel's facility."""
        return not self.level >> _FACILITY_SHIFT

    def to_line(self, sequence: int, *, after_loss: bool = False) -> Line:
        """Return it for the parser of reports."""
        text = decode_bytes(self.text)
        return Line(
            text=text,
            time_ns=(self.time_us or 0) * NS_PER_US,
            sequence=sequence,
            caller=self.caller,
            continues=text.startswith(CONTINUATIONS),
            after_loss=after_loss,
            exact=True,
        )


def parse_syslog_line(raw: bytes) -> SyslogLine | None:
    """Parse a line without its newline; ``None`` without a level."""
    match = _LINE.fullmatch(raw)
    if not match:
        return None
    seconds, caller = match["s"], match["caller"]
    return SyslogLine(
        prefix=raw[: match.start("text")],
        text=match["text"],
        level=int(match["level"]),
        time_us=int(seconds) * (NS_PER_S // NS_PER_US) + int(match["us"]) if seconds else None,
        caller=int(caller) if caller else None,
    )
