"""What an agent listens to, all at once: each tells of what the others cannot.

The kernel's kills come from one source; others beside it tell of kills that are none of the
kernel's; and the kernel's log has its report of each kill, where the source does not read that.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from otel_oom.capture.kmsg.report_lookup import OomReportIndex
from otel_oom.capture.source import CaptureError, Source

_LOG = logging.getLogger(__name__)

_BY_LOG: Final = OomReportIndex.hook


@dataclass(frozen=True, slots=True)
class Sources:
    """``kernel`` tells of what the kernel counts, and no other does."""

    kernel: Source
    beside: tuple[Source, ...] = ()
    log: OomReportIndex | None = None

    @property
    def all(self) -> tuple[Source, ...]:
        """Those that hand over events."""
        return (self.kernel, *self.beside)


def log_beside(source: Source, until: ExitStack) -> OomReportIndex | None:
    """The kernel's log beside ``source``, which is attached, closed with ``until``.

    ``None`` where the source reads the log itself, and where it can't be read: a kill is told
    without its report then.
    """
    if _BY_LOG in {source.hook, source.decision_source}:
        return None
    try:
        log = until.enter_context(OomReportIndex(from_start=source.pinned))
    except CaptureError as error:
        _LOG.warning("The kernel's own report of a kill is not told: %s", error)
        return None
    _LOG.info("The kernel's own report of a kill is taken from %s", _BY_LOG)
    return log
