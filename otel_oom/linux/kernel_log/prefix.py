"""What stands before the kernel's own text in a log that was kept elsewhere.

The date, host and program that a producer of logs puts before a line are taken off by who reads
its files. Behind them may be still: colours (``dmesg --color``), the level (``<6>``), the time
(``[   12.345678]``) and the thread or processor that printed it (``[   T123]``, ``[    C1]``;
printk() with CONFIG_PRINTK_CALLER), each in this order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.pattern import pattern

_COLOUR: Final = pattern(r"\x1b\[[0-9;]{0,16}[mK]")
_DRESS: Final = pattern(
    r"(?:<\d{1,3}>)?(?:\[ {0,8}\d{1,10}\.\d{1,9}\] ?)?"
    r"(?:\[ {0,12}(?:T(\d{1,10})|C\d{1,5})\] )?(?=.)"
)
_ESCAPE: Final = "\x1b"
_BEGINNINGS: Final = ("<", "[", _ESCAPE)


def undressed(line: Line) -> Line:
    """The line with the kernel's own text, and the thread that printed it."""
    text, caller = line.text, line.caller
    if text.startswith(_BEGINNINGS):
        text = _uncoloured(text)
        if found := _DRESS.match(text):
            caller = int(found[1]) if found[1] else caller
            text = _uncoloured(text[found.end() :])
    return line if len(text) == len(line.text) else replace(line, text=text, caller=caller)


def _uncoloured(text: str) -> str:
    # Within a line without, it is a name that has colour.
    return _COLOUR.sub("", text) if text.startswith(_ESCAPE) else text
