"""Signs of a kill in a file, for a sentence where none of them led to an event."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from otel_oom.commands.replay.prefilter import RawLine
from otel_oom.model.text import decode_bytes, escape_nonprintable

_SIGN: Final = re.compile(
    rb"Killed process \d|[Kk]ill process \d|invoked oom-killer:|oom-kill:"
    # earlyoom, systemd-oomd, oomd, nohang
    rb"|sending SIG(?:TERM|KILL) to process \d|[Kk]illing process(?: '|: | \d)"
    rb"|(?:Killed|Marked) /[^ \n]{1,4096}?(?: (?:for killing )?due to (?:memory|swap) |>)"
    rb"|detectorgroup:\[[^\]\n]{0,256}\] killer:\w|Send(?:ing)? SIG(?:TERM|KILL) to the victim"
    # Talos, Android
    rb'|victim processes: [^\n]{1,256}processes\\?": ?\[\d'
    rb"|Kill(?:ing)? '[^'\n]{1,256}' \(\d{1,10}\)[, ]|send sigkill to \d"
    # What systemd says of a unit.
    rb"|systemd-oomd killed \d"
)
"""With a number or a colon: else it may be a command that searches for such lines."""
_PARTS: Final = (
    *(
        b"illed process ",
        b"ill process ",
        b"illing process",
        b"oom-kill",
        b"SIGTERM to ",
        b" killer:",
    ),
    *(b"SIGKILL to ", b"sigkill to ", b"Killed /", b"Marked /", b"victim processes", b"Kill '"),
    *(b"Killing '", b"systemd-oomd killed "),
)
"""Parts of the signs: a search for these is a hundred times as fast."""
_DRY_RUN: Final = b"dryrun, not actually sending"
"""earlyoom only simulates the kill of the message before."""
_CHARS_BEFORE: Final = 80
_CHARS: Final = 240


class KillSigns:
    """The first sign of a kill in a file, whether or not its line is parsed."""

    def __init__(self) -> None:
        """Begin without a sign."""
        self.first: str | None = None
        """The line around it, escaped and bounded."""

    def watch(self, lines: Iterable[RawLine]) -> Iterator[RawLine]:
        """Yield the lines, and remember the first sign in them."""
        for line in lines:
            if line.relevant:
                self.search(line.text)
            yield line

    def search(self, data: bytes) -> None:
        """Remember the first sign in one or more lines, or in a part of one."""
        if self.first and _DRY_RUN in data and "sending SIG" in self.first:
            self.first = None
        if self.first or not any(part in data for part in _PARTS):
            return
        match = _SIGN.search(data)
        if match is None:
            return
        begin = max(data.rfind(b"\n", 0, match.start()) + 1, match.start() - _CHARS_BEFORE)
        line = data[begin : begin + _CHARS].partition(b"\n")[0]
        self.first = escape_nonprintable(decode_bytes(line).strip())

    def describe_silence(self, path: str) -> str:
        """Return why the file has no events although it has a sign, and what to do."""
        return (
            f'{path}: no event, although a line looks like a kill: "{self.first}". Its format is '
            "not read: keep the log as dmesg or journalctl -k prints it."
        )
