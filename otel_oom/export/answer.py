"""A backend's answer to one request, and what it means for what was sent.

OTLP specification, "OTLP/HTTP Response" and "OTLP/gRPC Response".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol


class Verdict(Enum):
    """What becomes of the messages of a request."""

    TAKEN = "taken"
    """The backend has them."""
    LATER = "later"
    """It may take them later: send again."""
    REFUSED = "refused"
    """It will never take them: do not send again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One verdict, and why.

    ``wait_s`` is how long the backend asked to be left alone, in seconds. ``rejected`` is the
    number of records that it took the request without (partial success).
    """

    verdict: Verdict
    reason: str = ""
    wait_s: float | None = None
    rejected: int = 0


class Transport(Protocol):
    """One way to send OTLP bytes to one endpoint."""

    def send(self, body: bytes) -> Answer:
        """Send one encoded request and wait for its answer, at most the endpoint's timeout."""

    def close(self) -> None:
        """Give up the connection; a request under way ends with a verdict of ``LATER``."""


RETRY_HTTP: Final = frozenset({429, 502, 503, 504})
"""HTTP status codes after which the same request may be sent again."""

RETRY_GRPC: Final = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
"""gRPC status codes likewise; RESOURCE_EXHAUSTED joins them when RetryInfo comes with it."""

_REASON_CHARS: Final = 500


def bounded(text: str) -> str:
    """A backend's words as one line, cut to a length that a log and a table can hold."""
    # What is not printable could forge log lines or steer a terminal.
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * _REASON_CHARS])
    text = " ".join(text.split())
    return text if len(text) <= _REASON_CHARS else text[:_REASON_CHARS] + "…"
