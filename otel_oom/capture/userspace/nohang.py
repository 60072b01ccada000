"""Join the messages in which nohang reports a kill; each line is an entry of the journal.

Source: ``find_victim()``, ``find_victim_info()`` and ``implement_corrective_action()`` of nohang
(0.1 to 0.3). The victim's name can be that of a message, and its command line, which can be shown,
can have newlines: a kill is a claim, until a death confirms it.
"""

from __future__ import annotations

import re
from typing import Final

from otel_oom.capture.userspace.messages import ParsedKill
from otel_oom.model.types import Task, UserspaceOomDaemon
from otel_oom.model.units import MIB

_MAX_CHARS: Final = 9000
_BEGIN: Final = re.compile(r"(?:Process with highest badness|Victim status) \(found in .{1,32}\):")
_VICTIM: Final = re.compile(
    r"PID: +(?P<pid>\d{1,10}), [Nn]ame: (?P<comm>.{0,64}?)"
    r"(?:, badness: -?\d{1,18}|, state: .{1,64}, [Ee]?UID: (?P<uid>\d{1,10})(?:, .*)?)"
)
_SCORE_ADJ: Final = re.compile(r"badness: .{1,64}, oom_score_adj: +(?P<adj>-?\d{1,4})")
_RESIDENT: Final = re.compile(r"Vm, MiB: +Size: \d{1,9}, RSS: (?P<rss>\d{1,9})\D.*")
_CGROUP: Final = re.compile(r"cgroup_v2: (?P<path>/.{0,4096})")
_LIMIT: Final = re.compile(
    r"MemAvailable \[.{1,64}\] <= (?:hard|soft)_threshold_min_mem \[\d{1,9} MiB, "
    r"(?P<limit>\d{1,3}(?:\.\d{1,2})?) %\]"
)
_SIGNAL: Final = re.compile(r"Send(?:ing)? (?P<signal>SIG[A-Z]{3,5}) to the victim.{0,64}")


class NohangParser:
    """The state between the messages of one kill."""

    _limit: float | None = None
    _victim: Task | None = None
    _score_adj: int | None = None
    _resident: int | None = None
    _path: str | None = None

    def feed(self, message: str) -> ParsedKill | None:
        """Take a message; return the kill if it is the last one of a kill."""
        text = message.strip()
        if len(text) > _MAX_CHARS:
            return None
        if _BEGIN.fullmatch(text):
            self._reset()
        elif match := _LIMIT.fullmatch(text):
            self._limit = float(match["limit"])
        elif match := _VICTIM.fullmatch(text):
            uid = match["uid"]
            self._victim = Task(
                tgid=int(match["pid"]),
                uid=None if uid is None else int(uid),
                comm=match["comm"] or None,
            )
        elif match := _SCORE_ADJ.fullmatch(text):
            self._score_adj = int(match["adj"])
        elif match := _RESIDENT.fullmatch(text):
            self._resident = int(match["rss"]) * MIB
        elif match := _CGROUP.fullmatch(text):
            self._path = match["path"]
        elif match := _SIGNAL.fullmatch(text):
            return self._build_kill(match["signal"], text)
        return None

    def _reset(self) -> None:
        self._victim = self._score_adj = self._resident = self._path = None

    def _build_kill(self, signal: str, text: str) -> ParsedKill | None:
        victim, limit = self._victim, self._limit
        if victim is None or not victim.tgid:
            return None
        reason = None if limit is None else "memory_available"
        kill = ParsedKill(
            UserspaceOomDaemon("nohang", signal=signal, reason=reason, limit=limit),
            original=f"{text}: PID {victim.tgid}, name {victim.comm}",
            victim=Task(victim.tgid, uid=victim.uid, comm=victim.comm, score_adj=self._score_adj),
            path=self._path,
            resident=self._resident,
            completed=False,
        )
        self._limit = None
        self._reset()
        return kill
