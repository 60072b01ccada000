"""Lines of a known format behind something else, as people and tools pass them on.

Before the line may stand a file name and number of grep(1), quote marks, an indent, the name of a
container or job, another time. What it is does not matter: the line begins where a known format
begins. A time before it completes its date. Where that other text is no mere quotation, any program
can have written the line; where it names another program of syslog, that one did.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from otel_oom.commands.replay.formats.log_line import LoggedLine, PartialTimestamp
from otel_oom.commands.replay.formats.written_time import complete_year, parse_written_time

_MAX_CHARS: Final = 300
_MAX_BEGINNINGS: Final = 8
_BEGINNING: Final = re.compile(
    # A time, a level, an uptime, a facility, or the name of the kernel, at the beginning of a word.
    rb"(?<![\w.])(?=[^\W\d][^\s\d\[\]:]{2,12} {1,2}\d{1,2} \d\d:\d\d:"
    rb"|\d{4}[-/]\d\d[-/]\d\d[T ]|<\d{1,3}>|\[ {0,9}[\d+]|\[< |kern {0,2}:|kernel: "
    rb"|\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} |[VDIWEF]/(?:lowmemorykiller|lmkd)\("
    rb"|(?:systemd-oomd|earlyoom|nohang(?:-desktop)?|oomd)\[\d{1,10}\]: )"
)
_TIME: Final = re.compile(
    rb"(?<![\w.])(?:\d{4}[-/]\d\d[-/]\d\d[T ]|\d{9,11}\.\d"
    rb"|[^\W\d][^\s\d]{2,12} {1,2}\d{1,2} \d\d:\d\d:)"
)
_QUOTATION: Final = re.compile(rb"[\s>|\"'`*#]*(?:[^\s:\[\]()=]{1,200}[:-])?(?:\d{1,9}[:-])?\s*")
_PROGRAM: Final = re.compile(
    # A facility of user space, as a number or by its name.
    rb"<(?:[89]|[1-9]\d{1,3})>\Z|\b(?!kern)[a-z0-9]{2,9} {0,6}:[a-z]{3,7} {0,6}: \Z|"
    rb"[^ ]\[\d{1,10}\]: |\d\d:\d\d:\d\d[^ ]{0,16} [A-Za-z][\w./@-]{0,63}: "
    rb"|\d\d:\d\d:\d\d[^ ]{0,16} [\w.:-]{1,255} [^|]*: "
    rb"|(?:^|[:>|] ?)[^\W\d][^\s\d]{2,12} {1,2}\d{1,2} \d\d:\d\d:\d\d [\w.:-]{1,255} "
)
_QUOTES: Final = b"\"'`"


def parse_wrapped_line(
    raw: bytes, parse_line: Callable[[bytes], LoggedLine | None]
) -> LoggedLine | None:
    """Return the kernel's line that ``parse_line`` reads from the first known beginning on."""
    for _, match in zip(
        range(_MAX_BEGINNINGS), _BEGINNING.finditer(raw, 1, _MAX_CHARS), strict=False
    ):
        wrapper, rest = raw[: match.start()], raw[match.start() :]
        if wrapper[-1:] in _QUOTES and rest.endswith(wrapper[-1:]):
            rest = rest[:-1]
        line = parse_line(rest)
        if line is not None:
            return None if is_of_program(wrapper) else _complete(line, wrapper)
    return None


def _complete(line: LoggedLine, wrapper: bytes) -> LoggedLine:
    is_quotation = _QUOTATION.fullmatch(wrapper) is not None
    return replace(
        line,
        when=complete_year(line.when, find_time(wrapper)),
        unverified=line.unverified or not is_quotation,
    )


def is_of_program(wrapper: bytes) -> bool:
    """Return whether the text before a line is that of a program's line of syslog."""
    return _PROGRAM.search(wrapper) is not None


def find_time(wrapper: bytes) -> int | PartialTimestamp | None:
    """Return the first time in the text before a line."""
    match = _TIME.search(wrapper)
    written = parse_written_time(wrapper, match.start()) if match else None
    return written.when if written else None
