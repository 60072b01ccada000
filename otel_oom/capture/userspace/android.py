"""Parse the messages of Android's low memory killer: the driver of its kernels, and lmkd.

Sources: ``lowmem_scan()`` of ``drivers/staging/android/lowmemorykiller.c`` (2.6.29 to 4.11, and of
vendors), ``kill_one_process()`` of lmkd (Android 5 to 16). The size can be in the next line. The
name of a victim is that of its package: its author chooses it. Candidates are no kills.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from otel_oom.capture.userspace.messages import ParsedKill
from otel_oom.model.types import Task, UserspaceOomDaemon
from otel_oom.model.units import KIB

ANDROID: Final = "android"
"""In place of a unit: Android has none."""
_DRIVER_NAME: Final = "lowmemorykiller"
DRIVER_PREFIX: Final = f"{_DRIVER_NAME}: "

_MAX_CHARS: Final = 4096
_PAGE: Final = 4096
"""Of all kernels that have the driver."""
_VICTIM: Final = r"'(?P<comm>.{0,256})' \((?P<pid>\d{1,10})\)"
_SIZE: Final = r"to free (?P<size>\d{1,12})kB"
_LMKD: Final = re.compile(
    rf"Kill(?:ing)? {_VICTIM}, uid (?P<uid>\d{{1,10}}), "
    r"(?:oom_(?:score_)?)?adj (?P<adj>-?\d{1,4})"
    rf"(?:,?\s{{1,8}}{_SIZE}(?:\W.*)?)?\s*",
    re.DOTALL,
)
_DRIVER: Final = re.compile(
    rf"Killing {_VICTIM}(?: \(tgid (?P<tgid>\d{{1,10}})\))?, adj (?P<adj>-?\d{{1,4}}),?"
    rf"(?: state\(-?\d{{1,10}}\))?(?:\s{{1,8}}{_SIZE}\W.*)?\s*",
    re.DOTALL,
)
_OLD_DRIVER: Final = re.compile(
    r"(?:[\w-]{1,16}: |\[LMK\] )?send sigkill to (?P<pid>\d{1,10}) \((?P<comm>.{0,64}?)\), "
    r"(?:score_)?adj -?\d{1,5}, ?(?:adj -?\d{1,5}, )?size (?P<pages>\d{1,12})(?:\D.*)?"
)
_PATTERNS: Final = (("lmkd", _LMKD), (_DRIVER_NAME, _DRIVER), (_DRIVER_NAME, _OLD_DRIVER))
_THREAD: Final = re.compile(r"\A\[[\w/:.-]{1,40}\] ?")
_MORE: Final = re.compile(rf"\s{{1,8}}{_SIZE}\W.*", re.DOTALL)
_REASONS: Final = (
    (re.compile(r"\bis below limit\b"), "memory_available"),
    (re.compile(r"\bmemory pressure\b"), "memory_pressure"),
    (re.compile(r"\blow on swap\b"), "swap_used"),
)


class AndroidParser:
    """A kill whose size may follow in the next message."""

    _held: ParsedKill | None = None

    def feed(self, message: str) -> Iterator[ParsedKill]:
        """Take a message; yield the kills that it completes."""
        if len(message) > _MAX_CHARS:
            return
        if self._held and (more := _MORE.fullmatch(message)):
            held, self._held = self._held, None
            text = f"{held.original} {message.strip()}"
            yield _with_reason(replace(held, original=text, resident=int(more["size"]) * KIB))
            return
        yield from self.flush()
        kill = parse_android_kill(message)
        if kill and kill.resident is None:
            self._held = kill
        elif kill:
            yield kill

    @property
    def waits(self) -> bool:
        """True while the next message may have the size of a kill."""
        return self._held is not None

    def flush(self) -> Iterator[ParsedKill]:
        """Yield the kill that waits for its size."""
        held, self._held = self._held, None
        if held:
            yield held


def parse_android_kill(message: str) -> ParsedKill | None:
    """Parse the first line of a kill; ``None`` for any other message."""
    text = strip_thread(message).removeprefix(DRIVER_PREFIX)
    for name, pattern in _PATTERNS:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        fields = match.groupdict()
        pid = int(fields.get("tgid") or fields["pid"])
        size, pages = fields.get("size"), fields.get("pages")
        kill = ParsedKill(
            UserspaceOomDaemon(name, signal="SIGKILL"),
            original=text.strip(),
            victim=Task(
                pid,
                uid=int(fields["uid"]) if fields.get("uid") else None,
                # Of the oldest drivers it may be the older oom_adj.
                score_adj=int(fields["adj"]) if fields.get("adj") else None,
                comm=fields["comm"] or None,
            ),
            resident=int(size) * KIB if size else int(pages) * _PAGE if pages else None,
        )
        return _with_reason(kill) if pid else None
    return None


def strip_thread(message: str) -> str:
    """Return a message without the thread that some vendors' kernels print before it."""
    return _THREAD.sub("", message)


def _with_reason(kill: ParsedKill) -> ParsedKill:
    reasons = (reason for pattern, reason in _REASONS if pattern.search(kill.original))
    # The driver compares free memory and cache with its limits, and says so in its last lines.
    default = "memory_available" if kill.killer.name == _DRIVER_NAME else None
    reason = next(reasons, default)
    return replace(kill, killer=UserspaceOomDaemon(kill.killer.name, "SIGKILL", reason))
