"""What a program wants to capture, and where it is kept."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class CaptureOptions(Struct, frozen=True):
    """The options of ``otel-oom run`` that a program has too.

    Without a ``state_dir`` nothing outlives the program.
    """

    state_dir: Path | None = None
    source: str = "auto"
    history: bool = False
    command_line: bool = False
