"""A file that is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from otel_oom.commands.replay.decompress import STDIN


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file to be read, or several of the journal's own, which are read together.

    ``ended_unix_ns`` is when it was last written. ``series`` is the name that it shares with those
    that were rotated away before and after it.
    """

    paths: tuple[Path, ...]
    size: int
    ended_unix_ns: int
    series: str
    is_journal: bool = False

    @property
    def path(self) -> Path | None:
        """What it is called, unless it is the standard input."""
        return None if self.paths[0] == STDIN else self.paths[0]
