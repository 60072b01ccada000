"""Entries of ``logcat -v long``: time, process and tag on a line of their own, then the message.

They are read as lines of ``threadtime``. A line of a message can imitate the head of an entry, so
no entry is believed to be the kernel's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from otel_oom.commands.replay.prefilter import RawLine, ReportWindow
from otel_oom.commands.replay.signs import SIGN

HEADER: Final = re.compile(
    rb"\[ ((?:[\d-]{5,10} [\d:]{8}| {0,12}\d{1,11})\.\d{3,9}(?: [+-]\d{4})?) {1,8}"
    rb"(?:[\w-]{1,32}: {0,8})?(\d{1,10}): {0,8}(\d{1,10}) ([VDIWEF])/([^\n]{0,64}?) {1,16}\]\r?"
)
"""``[ 11-14 21:00:00.123   710:  712 I/lmkd     ]`` (``logprint.cpp`` of Android's liblog)."""


def prefilter_long(blocks: Iterable[bytes]) -> Iterator[RawLine]:
    """Yield the lines of messages that matter, each behind the head of its entry."""
    window = ReportWindow()
    head = b""
    for block in blocks:
        for line in block.splitlines():
            if header := HEADER.fullmatch(line):
                is_kernel = not int(header[2])
                head = b"" if is_kernel else b"%s %s %s %s %s: " % header.groups()
            elif head and line:
                sign = SIGN.search(line)
                if sign or window.is_open:
                    yield window.advance(head + line, sign)
