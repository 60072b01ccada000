"""A real VictoriaLogs on loopback, with a temporary folder as storage."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

from tests.testlib.process import LOOPBACK, ServerProcess, free_port, run_server
from tests.testlib.servers.web import http_get, is_ok

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Entry:
    """A log entry that a query found."""

    time: int
    """Unix time in nanoseconds."""
    message: str
    """The log record's body."""
    stream: str
    """The stream that it is stored in, such as `{service.name="shop"}`."""
    fields: Mapping[str, str]
    """Attributes of the record and its resource together, under OpenTelemetry's names."""


@dataclass(frozen=True)
class VictoriaLogs:
    """A running VictoriaLogs with its query API."""

    process: ServerProcess
    url: str
    """Base URL; OTLP is received at /insert/opentelemetry below it."""

    def query(self, logsql: str, *, limit: int = 1000) -> list[Entry]:
        """Return the entries that a LogsQL query finds, oldest first.

        An entry can be found a second after it was received.

        Args:
            logsql: such as `service.name:="shop" event_name:="oom.kill"`.
            limit: the maximum number of entries.

        Raises:
            ValueError: VictoriaLogs rejected the query; says why.
        """
        params = {"query": logsql, "limit": str(limit)}
        reply = http_get(f"{self.url}/select/logsql/query", params)
        if reply.status != HTTPStatus.OK:
            raise ValueError(f"HTTP {reply.status}: {reply.body[:500]!r}")
        entries = [_entry(json.loads(line)) for line in reply.body.splitlines()]
        return sorted(entries, key=lambda entry: entry.time)


@contextmanager
def run_victorialogs(binary: Path) -> Iterator[VictoriaLogs]:
    """Run the binary from `build_binary("victorialogs")`, empty, on a free port.

    Raises:
        ServerError: it did not start; says why.
    """
    address = f"{LOOPBACK}:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="victorialogs-") as temporary:
        folder = Path(temporary)
        with run_server(
            "victorialogs",
            [binary, f"-storageDataPath={folder / 'data'}", f"-httpListenAddr={address}"],
            folder=folder,
            ready=lambda _: is_ok(f"http://{address}/health"),
        ) as process:
            yield VictoriaLogs(process, f"http://{address}")


def _entry(fields: dict[str, str]) -> Entry:
    time, stream = _unix_ns(fields.pop("_time")), fields.pop("_stream")
    del fields["_stream_id"]
    return Entry(time, fields.pop("_msg", ""), stream, fields)


def _unix_ns(text: str) -> int:
    """Read RFC 3339 in UTC, which has up to nine digits after the second."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
    return seconds * _NS_PER_S + int(fraction.ljust(9, "0"))
