"""Load the source of userspace kills once this host has a daemon: it takes 0.4 MB."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Sequence
from typing import Final, Self

from otel_oom.capture.source import Handler, Source, SupportsRequesters
from otel_oom.capture.userspace.daemons import installed_daemons
from otel_oom.capture.userspace.hidden_sources import log_hidden_sources
from otel_oom.model.events import OomKill
from otel_oom.model.loss import LostEvents
from otel_oom.model.types import SYSRQ_ORDER

_CHECK_INTERVAL_S: Final = 60.0


class DaemonWatch:
    """The source of ``create``, from the moment on that a userspace OOM daemon is installed.

    See :class:`otel_oom.capture.source.Source`. A daemon kills later than it is installed, so
    that its first kill imports nothing.
    """

    name = "journal"
    hook = "systemd-journald"
    decision_source = ""
    pinned = True

    def __init__(
        self,
        create: Callable[[], Source],
        find_daemons: Callable[[], Sequence[str]] = installed_daemons,
    ) -> None:
        self._create = create
        self._find_daemons = find_daemons

    def __enter__(self) -> Self:
        """Open the source if there is a daemon."""
        self._epoll = select.epoll()
        self._source: Source | None = None
        self._next_check = -math.inf
        self._open_if_needed()
        if self._source is None:
            log_hidden_sources()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the source."""
        if self._source:
            self._source.__exit__(None, None, None)
        self._epoll.close()

    def fileno(self) -> int:
        """Return an epoll descriptor that is readable when that of the source is."""
        return self._epoll.fileno()

    def drain(self, handler: Handler) -> int:
        """Drain the source; look for a daemon once a minute as long as there is none."""
        self._open_if_needed()
        return self._source.drain(handler) if self._source else 0

    def add_requester(self, kill: OomKill) -> OomKill:
        """Return a kill by sysrq with the daemon that requested it, if one did."""
        is_by_sysrq = kill.decision is not None and kill.decision.order == SYSRQ_ORDER
        if is_by_sysrq and isinstance(self._source, SupportsRequesters):
            return self._source.add_requester(kill)
        return kill

    def lost_events(self) -> LostEvents:
        """Return the loss of the source."""
        return self._source.lost_events() if self._source else LostEvents()

    def _open_if_needed(self) -> None:
        if self._source or time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_INTERVAL_S
        if self._find_daemons():
            self._source = self._create().__enter__()
            self._epoll.register(self._source, select.EPOLLIN)
