"""The result of one export request, who sends it and who observes it.

OTLP specification, "OTLP/HTTP Response" and "OTLP/gRPC Response".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from otel_oom.config.redaction import redact_secrets

_MAX_REASON_CHARS: Final = 500
_MAX_TEXT_CHARS: Final = 1 << 16


class ExportResult(Enum):
    """Consequence of a request for its messages."""

    ACCEPTED = "accepted"
    """The backend has them, apart from those of a partial success."""
    RETRYABLE = "retryable"
    """The same request may succeed later."""
    REJECTED = "rejected"
    """The same request will never succeed. One of several messages may be the cause."""
    TOO_LARGE = "too large"
    """The request will never succeed; a smaller one may."""
    MISCONFIGURED = "misconfigured"
    """Wrong address or credentials: every request will fail."""


@dataclass(frozen=True, slots=True)
class ExportResponse:
    """Result of a request, with its reason.

    ``retry_after_s`` is the wait that the backend requests, in seconds. ``rejected`` counts the
    records that it rejected of an accepted request (partial success). ``status_code`` is as
    the protocol writes it; empty for an accepted request, and without a response. ``deferred_s``
    are messages of an accepted request that stay, by uid: they are sent again after these seconds.
    """

    result: ExportResult
    reason: str = ""
    retry_after_s: float | None = None
    rejected: int = 0
    status_code: str = field(default="", compare=False)
    deferred_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def error_type(self) -> str:
        """The ``error.type`` of the request; empty for an accepted one."""
        if self.result is ExportResult.ACCEPTED:
            return "rejected" if self.rejected else ""
        return self.status_code or self.result.name.lower()


class Transport(Protocol):
    """Client of one OTLP endpoint."""

    def send(self, body: bytes) -> ExportResponse:
        """Send one encoded request; return within the endpoint's timeout."""

    def close(self) -> None:
        """Close the connection; a request under way becomes ``RETRYABLE``."""


class ExportObserver:
    """Observer of each step of an exporter; the methods here do nothing.

    They are called in the exporter's thread, and must neither block nor raise.
    """

    @property
    def wants_delays(self) -> bool:
        """Return true if :meth:`on_delivered` is of use: it costs a query of the store."""
        return False

    def begin_step(self) -> None:
        """Note that a bounded step begins."""

    def end_step(self) -> None:
        """Note that the step ended; the thread may wait for any time."""

    def begin_request(self, channel: str, count: int) -> None:
        """Note that a request with ``count`` messages begins."""

    def end_request(self, channel: str, error_type: str) -> None:
        """Note that the request ended; ``error_type`` is empty for an accepted one."""

    def on_exported(self, channel: str, error_type: str, count: int) -> None:
        """Count messages of a channel with a final result; ``error_type`` is empty if accepted."""

    def on_parked(self, channel: str, count: int) -> None:
        """Note how many messages are parked: retried alone, while others are accepted."""

    def on_delivered(self, signal: str, delays_s: Iterable[float]) -> None:
        """Record the seconds from the kernel to the backend, one value for each message."""


def sanitize_reason(text: str, secrets: Iterable[str] = ()) -> str:
    """Make a backend's message one printable line without ``secrets``, cut to 500 characters."""
    text = redact_secrets(text[:_MAX_TEXT_CHARS], secrets)
    # Unprintable characters could forge log lines or control a terminal.
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_REASON_CHARS])
    text = " ".join(text.split())
    return text if len(text) <= _MAX_REASON_CHARS else text[:_MAX_REASON_CHARS] + "…"
