"""Loki's limits on what it stores, by its documentation.

Sources: the configuration reference, and "Troubleshoot log ingestion (WRITE)", which has the
reasons, texts and HTTP statuses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from tests.testlib.servers.loki_entry import Entry

NS_PER_S = 1_000_000_000
KB, MB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Limits:
    """Options of ``limits_config``, under their names and at their defaults; sizes in bytes.

    Times in seconds have ``_s`` after the name of the option.
    """

    ingestion_rate_mb: float = 4
    ingestion_burst_size_mb: float = 6
    per_stream_rate_limit: int = 3 * MB
    per_stream_rate_limit_burst: int = 15 * MB
    max_global_streams_per_user: int = 5000
    max_label_names_per_series: int = 15
    max_label_name_length: int = 1024
    max_label_value_length: int = 2048
    max_line_size: int = 256 * KB
    max_structured_metadata_size: int = 64 * KB
    max_structured_metadata_entries_count: int = 128
    reject_old_samples_max_age_s: int = 168 * 3600
    creation_grace_period_s: int = 600
    # Of ``ingester``.
    max_chunk_age_s: int = 2 * 3600
    chunk_idle_period_s: int = 30 * 60


@dataclass(frozen=True)
class Rejection:
    """An entry that Loki does not store."""

    status: HTTPStatus
    """400 is final; 429 asks for a retry."""
    reason: str
    """The ``reason`` of ``loki_discarded_samples_total``."""
    text: str


def check_entry(entry: Entry, limits: Limits, now_ns: int) -> Rejection | None:
    """Return the first limit that an entry exceeds whatever else is stored, or None."""
    broken = next(_broken(entry, limits, now_ns), None)
    return Rejection(HTTPStatus.BAD_REQUEST, *broken) if broken else None


def _broken(entry: Entry, limits: Limits, now_ns: int) -> Iterator[tuple[str, str]]:
    stream, line = f"stream '{format_stream(entry.labels)}'", len(entry.line.encode())
    time, metadata = f"timestamp too {{}}: {format_rfc3339(entry.time)}", len(entry.metadata)
    oldest_ns = now_ns - limits.reject_old_samples_max_age_s * NS_PER_S
    if entry.time < oldest_ns:
        bound = f"oldest acceptable timestamp is: {format_rfc3339(oldest_ns)}"
        yield "greater_than_max_sample_age", f"entry for {stream} has {time.format('old')}, {bound}"
    if entry.time > now_ns + limits.creation_grace_period_s * NS_PER_S:
        yield "too_far_in_future", f"entry for {stream} has {time.format('new')}"
    if line > limits.max_line_size:
        bound = f"max entry size {limits.max_line_size} bytes exceeded for {stream}"
        yield "line_too_long", f"{bound} while adding an entry with length {line} bytes"
    if len(entry.labels) > limits.max_label_names_per_series:
        bound = f"{len(entry.labels)} label names; limit {limits.max_label_names_per_series}"
        yield "max_label_names_per_series", f"entry for {stream} has {bound}"
    for name, value in entry.labels.items():
        if len(name.encode()) > limits.max_label_name_length:
            yield "label_name_too_long", f"{stream} has label name too long: {name}"
        if len(value.encode()) > limits.max_label_value_length:
            yield "label_value_too_long", f"{stream} has label value too long: {value}"
    if entry.metadata_bytes > limits.max_structured_metadata_size:
        bound = f"max_structured_metadata_size: {limits.max_structured_metadata_size}"
        yield "structured_metadata_too_large", f"{stream} has {entry.metadata_bytes} bytes; {bound}"
    if metadata > (max_entries := limits.max_structured_metadata_entries_count):
        bound = f"max_structured_metadata_entries_count: {max_entries}"
        yield "structured_metadata_too_many", f"{stream} has {metadata} entries; {bound}"


def format_stream(labels: Mapping[str, str]) -> str:
    """Return a stream as Loki writes it: its labels in braces."""
    pairs = (f"{name}={json.dumps(value)}" for name, value in sorted(labels.items()))
    return f"{{{', '.join(pairs)}}}"


def format_rfc3339(unix_ns: int) -> str:
    """Return a time to the second, in UTC."""
    return datetime.fromtimestamp(unix_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
