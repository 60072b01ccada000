"""Kills in containers, as a backend has received them."""

from __future__ import annotations

from tests.parts.wait import until
from tests.support.backend import Backend, Received

ARRIVES_S = 30.0


def kill_in(backend: Backend, container_id: str) -> Received:
    """The log of the one kill in a container."""

    def found() -> list[Received]:
        return [log for log in backend.logs if log.resource.get("container.id") == container_id]

    (log,) = until(found, "the kill's log", limit=ARRIVES_S)
    return log


def span_of(backend: Backend, log: Received) -> Received:
    """The span of the same kill."""

    def found() -> list[Received]:
        return [span for span in backend.spans if span.uid == log.uid]

    (span,) = until(found, "the kill's span", limit=ARRIVES_S)
    return span
