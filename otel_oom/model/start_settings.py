"""The allowed part of the environment and the command line that a process was started with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

MARK: Final = "mark"
PROCESS: Final = "process"
NOTE: Final = "note"
CONTAINER: Final = "container"
"""Sources: the victim's memory at the mark, its ``/proc`` at the kill by a userspace OOM daemon,
its ``/proc`` long before it, and the configuration of its container."""


class StartSettings(Struct, frozen=True):
    """The allowed part of an environment and a command line; the rest never leaves their reader.

    ``environ`` are the variables by which a process names itself to OpenTelemetry. ``memory`` are
    the memory settings of its runtime, as
    :func:`~otel_oom.linux.runtimes.settings.select_settings` returns them. ``source`` is one of the
    constants above. ``is_complete``: all of the environment was read; ``has_command``: all of the
    command line, too.
    """

    source: str
    environ: Mapping[str, str] = {}
    memory: Mapping[str, str] = {}
    is_complete: bool = True
    has_command: bool = True
