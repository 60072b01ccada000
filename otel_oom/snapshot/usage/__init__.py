"""Sample the memory usage of limited cgroups and of the host, for the minutes before a kill."""

from __future__ import annotations

from typing import Protocol

from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.snapshot import HostMemory
from otel_oom.model.usage import UsageHistory


class UsageSource(Protocol):
    """The recorder of usage, as the capture of kills uses it."""

    is_capturing: bool
    """Set while a kill is recorded: sampling pauses."""

    def build_history(
        self, kill: OomKill | UserspaceKill, host: HostMemory | None
    ) -> UsageHistory | None:
        """Return the usage before a kill; ``host`` is the memory just after it."""
