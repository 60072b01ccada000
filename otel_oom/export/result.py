"""The result of one export request, who sends it and who observes it.

OTLP specification, "OTLP/HTTP Response" and "OTLP/gRPC Response".
"""

from __future__ import annotations

from collections.abc import Iterable
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
    records that it rejected of an accepted request (partial success). ``status_code`` is that of
    a rejection, as the protocol writes it.
    """

    result: ExportResult
    reason: str = ""
    retry_after_s: float | None = None
    rejected: int = 0
    status_code: str = field(default="", compare=False)


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

    def on_exported(self, signal: str, error_type: str, count: int) -> None:
        """Count messages with a final result; ``error_type`` is empty for accepted ones."""

    def on_parked(self, signal: str, count: int) -> None:
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
