"""The result of one export request.

OTLP specification, "OTLP/HTTP Response" and "OTLP/gRPC Response".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol


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


RETRYABLE_HTTP: Final = frozenset({429, 502, 503, 504})
"""HTTP status codes after which the same request may be sent again."""

MISCONFIGURED_HTTP: Final = frozenset({*range(300, 400), 401, 404, 405, 407, 421})
"""HTTP status codes that no message causes. Not 403: firewalls send it because of contents.

Redirects are not followed: the specification has none, and a POST would become a GET or send the
credentials elsewhere. Python's official exporter counts a redirect as success.
"""

TOO_LARGE_HTTP: Final = 413

RETRYABLE_GRPC: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
"""gRPC status codes likewise; also RESOURCE_EXHAUSTED if RetryInfo comes with it."""

MISCONFIGURED_GRPC: Final = frozenset({"UNAUTHENTICATED", "UNIMPLEMENTED"})
"""gRPC status codes that no message causes."""

TOO_LARGE_GRPC: Final = {
    "RESOURCE_EXHAUSTED": ("larger than max", "exceeds maximum size", "exceeds the maximum"),
    "OUT_OF_RANGE": ("message length too large",),
}
"""Messages of servers about a request that is too large: Go, C++ and Python; Java; .NET; and Rust
(tonic), whose status code alone would be retried for ever."""

_MAX_REASON_CHARS: Final = 500


def sanitize_reason(text: str) -> str:
    """Make a backend's message one printable line, cut to 500 characters."""
    # Unprintable characters could forge log lines or control a terminal.
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_REASON_CHARS])
    text = " ".join(text.split())
    return text if len(text) <= _MAX_REASON_CHARS else text[:_MAX_REASON_CHARS] + "…"
