"""Strip the prefix of the kernel's own text, in a log that was kept elsewhere.

The reader of a file removes the date, host and program that its producer wrote before a line. Then
may follow, in this order: colours (``dmesg --color``), the level (``<6>``), the time
(``[   12.345678]``) and the thread or processor that printed the line (``[   T123]``,
``[    C1]``; printk() with CONFIG_PRINTK_CALLER).
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from otel_oom.linux.kernel_log.line_types import Line, compile_pattern

_COLOUR: Final = compile_pattern(r"\x1b\[[0-9;]{0,16}[mK]")
_PREFIX: Final = compile_pattern(
    r"(?:<\d{1,3}>)?(?:\[ {0,8}\d{1,10}\.\d{1,9}\] ?)?"
    r"(?:\[ {0,12}(?:T(\d{1,10})|C\d{1,5})\] )?(?=.)"
)
_ESCAPE: Final = "\x1b"
_BEGINNINGS: Final = ("<", "[", _ESCAPE)


def strip_prefix(line: Line) -> Line:
    """Return the line with the kernel's own text, and the thread that printed it."""
    text, caller = line.text, line.caller
    if text.startswith(_BEGINNINGS):
        text = _strip_colour(text)
        if match := _PREFIX.match(text):
            caller = int(match[1]) if match[1] else caller
            text = _strip_colour(text[match.end() :])
    return line if len(text) == len(line.text) else replace(line, text=text, caller=caller)


def _strip_colour(text: str) -> str:
    # In a line that does not begin with a colour, it is part of a name.
    return _COLOUR.sub("", text) if text.startswith(_ESCAPE) else text
