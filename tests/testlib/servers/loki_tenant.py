"""The limits of Loki that depend on what a tenant has sent before.

Sources: as in :mod:`tests.testlib.servers.loki_limits`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus

from tests.testlib.servers.loki_entry import Entry
from tests.testlib.servers.loki_limits import (
    MB,
    NS_PER_S,
    Limits,
    Rejection,
    format_rfc3339,
    format_stream,
)


@dataclass
class TokenBucket:
    """A rate limit: ``rate`` bytes a second, ``burst`` bytes at once."""

    rate: float
    burst: float
    _left: float = field(init=False)
    _at_s: float = 0.0

    def __post_init__(self) -> None:
        self._left = self.burst

    def consume(self, size: int, now_s: float) -> bool:
        """Consume ``size`` bytes, or none if fewer are left; return True in the first case."""
        self._left = min(self.burst, self._left + (now_s - self._at_s) * self.rate)
        self._at_s = now_s
        if size > self._left:
            return False
        self._left -= size
        return True


@dataclass
class Stream:
    """An active stream."""

    bucket: TokenBucket
    newest_ns: int = 0
    received_ns: int = 0


@dataclass
class Tenant:
    """The state of a tenant: its active streams and its rate."""

    limits: Limits
    _streams: dict[str, Stream] = field(default_factory=dict)
    _bucket: TokenBucket = field(init=False)

    def __post_init__(self) -> None:
        limits = self.limits
        self._bucket = TokenBucket(
            limits.ingestion_rate_mb * MB, limits.ingestion_burst_size_mb * MB
        )

    def over_rate(self, entries: list[Entry], now_ns: int) -> Rejection | None:
        """Count the valid entries of a request; return a rejection of all if they are too many."""
        size = sum(entry.size for entry in entries)
        if self._bucket.consume(size, now_ns / NS_PER_S):
            return None
        return _too_many(
            "rate_limited",
            f"ingestion rate limit exceeded for user fake (limit: {int(self._bucket.rate)} "
            f"bytes/sec) while attempting to ingest {len(entries)} lines totaling {size} bytes",
        )

    def rejected(self, entry: Entry, now_ns: int) -> Rejection | None:
        """Put an entry into its stream; return the rejection by a limit of streams, or None."""
        limits, name = self.limits, format_stream(entry.labels)
        idle_ns = now_ns - limits.chunk_idle_period_s * NS_PER_S
        self._streams = {n: s for n, s in self._streams.items() if s.received_ns >= idle_ns}
        stream = self._streams.get(name)
        if stream is None:
            if len(self._streams) >= limits.max_global_streams_per_user:
                return _too_many(
                    "stream_limit",
                    "maximum active stream limit exceeded when trying to create stream "
                    f"{name}, user: fake",
                )
            bucket = TokenBucket(limits.per_stream_rate_limit, limits.per_stream_rate_limit_burst)
            stream = self._streams.setdefault(name, Stream(bucket))
        if not stream.bucket.consume(entry.size, now_ns / NS_PER_S):
            return _too_many(
                "per_stream_rate_limit",
                f"Per stream rate limit exceeded (limit: {limits.per_stream_rate_limit}/sec) while "
                f"attempting to ingest for stream '{name}' totaling {entry.size}",
            )
        oldest_ns = stream.newest_ns - limits.max_chunk_age_s * NS_PER_S // 2
        if entry.time < oldest_ns:
            text = (
                f"entry timestamp is: {format_rfc3339(entry.time)}, oldest acceptable timestamp is"
            )
            return Rejection(
                HTTPStatus.BAD_REQUEST,
                "too_far_behind",
                f"entry too far behind, {text}: {format_rfc3339(oldest_ns)}",
            )
        stream.newest_ns, stream.received_ns = max(stream.newest_ns, entry.time), now_ns
        return None


def _too_many(reason: str, text: str) -> Rejection:
    return Rejection(HTTPStatus.TOO_MANY_REQUESTS, reason, text)
