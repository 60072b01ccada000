"""A backend's answer to one request, and what it means for what was sent.

OTLP specification, "OTLP/HTTP Response" and "OTLP/gRPC Response".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol


class ExportResult(Enum):
    """What becomes of the messages of a request."""

    ACCEPTED = "taken"
    """The backend has them."""
    RETRYABLE = "later"
    """It may take them later: send again."""
    REJECTED = "refused"
    """It will never take them as they are: do not send again. One of several may be the cause."""
    TOO_LARGE = "too large"
    """It will never take so much at once; it may take less."""
    MISCONFIGURED = "turned away"
    """It takes nothing that is sent there so, whatever it is: address or credentials are wrong."""


@dataclass(frozen=True, slots=True)
class ExportResponse:
    """One verdict, and why.

    ``wait_s`` is how long the backend asked to be left alone, in seconds. ``rejected`` is the
    number of records that it took the request without (partial success). ``code`` is the status
    code of a refusal, as the protocol writes it.
    """

    verdict: ExportResult
    reason: str = ""
    wait_s: float | None = None
    rejected: int = 0
    code: str = field(default="", compare=False)


class Transport(Protocol):
    """One way to send OTLP bytes to one endpoint."""

    def send(self, body: bytes) -> ExportResponse:
        """Send one encoded request and wait for its answer, at most the endpoint's timeout."""

    def close(self) -> None:
        """Give up the connection; a request under way ends with a verdict of ``RETRYABLE``."""


RETRY_HTTP: Final = frozenset({429, 502, 503, 504})
"""HTTP status codes after which the same request may be sent again."""

MISCONFIGURED_HTTP_STATUS: Final = frozenset({*range(300, 400), 401, 404, 405, 407, 421})
"""HTTP status codes that no message is the cause of. Not 403: firewalls say it of contents.

A redirect is not followed: the specification has none, a POST would arrive as a GET or the
credentials with somebody else. Python's official exporter takes it for success.
"""

TOO_LARGE_HTTP: Final = 413

RETRY_GRPC: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
"""gRPC status codes likewise; RESOURCE_EXHAUSTED joins them when RetryInfo comes with it."""

MISCONFIGURED_GRPC_STATUS: Final = frozenset({"UNAUTHENTICATED", "UNIMPLEMENTED"})
"""gRPC status codes that no message is the cause of."""

TOO_LARGE_GRPC: Final = {
    "RESOURCE_EXHAUSTED": ("larger than max", "exceeds maximum size", "exceeds the maximum"),
    "OUT_OF_RANGE": ("message length too large",),
}
"""How servers say that a message is too large: Go, C++ and Python; Java; .NET; and Rust (tonic),
whose code for it would mean to try for ever."""

_REASON_CHARS: Final = 500


def bounded(text: str) -> str:
    """A backend's words as one line, cut to a length that a log and a table can hold."""
    # What is not printable could forge log lines or steer a terminal.
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * _REASON_CHARS])
    text = " ".join(text.split())
    return text if len(text) <= _REASON_CHARS else text[:_REASON_CHARS] + "…"
