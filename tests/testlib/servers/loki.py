"""A real Loki on loopback, with its own folder as storage."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from tests.testlib.process import LOOPBACK, Process, free_port, running
from tests.testlib.servers.web import get, ok

_QUERY = "/loki/api/v1/query_range"
_ANY = urlencode({"query": '{service_name="none"}'})  # "ready" comes seconds before it answers

HOUR = 3_600_000_000_000
"""In nanoseconds."""


@dataclass(frozen=True)
class Entry:
    """A log line that a query found."""

    time: int
    """Unix time in nanoseconds."""
    line: str
    """The log record's body."""
    labels: Mapping[str, str]
    """Index labels and structured metadata together: dots in names are underscores."""


@dataclass(frozen=True)
class Loki:
    """A running Loki, and its query API."""

    process: Process
    url: str
    """Base URL; OTLP is taken at /otlp below it."""

    def query(
        self, logql: str, start: int | None = None, end: int | None = None, *, limit: int = 1000
    ) -> list[Entry]:
        """Return the entries that a LogQL query finds, oldest first.

        Args:
            logql: such as `{service_name="shop"} | event_name="oom.kill"`.
            start: Unix time in nanoseconds; an hour before now by default.
            end: Unix time in nanoseconds, exclusive; an hour after now by default.
            limit: how many at most.

        Raises:
            ValueError: Loki refused the query; says why.
        """
        now = time.time_ns()
        params = {
            "query": logql,
            "start": str(now - HOUR if start is None else start),
            "end": str(now + HOUR if end is None else end),
            "limit": str(limit),
            "direction": "forward",
        }
        streams = get(f"{self.url}{_QUERY}", params).json()["data"]["result"]
        found = [
            Entry(int(value[0]), value[1], stream["stream"])
            for stream in streams
            for value in stream["values"]
        ]
        return sorted(found, key=lambda entry: entry.time)


@contextmanager
def loki(binary: Path) -> Iterator[Loki]:
    """Run the binary from `build.binary("loki")`, empty, on free ports.

    Raises:
        ServerError: it did not start; says why.
    """
    http, grpc = free_port(), free_port()
    url = f"http://{LOOPBACK}:{http}"
    with tempfile.TemporaryDirectory(prefix="loki-") as temporary:
        folder = Path(temporary)
        config = folder / "config.yaml"
        config.write_text(json.dumps(_config(folder, http, grpc)), encoding="utf-8")  # is YAML
        with running(
            "loki",
            [binary, f"-config.file={config}", "-target=all"],
            folder=folder,
            ready=lambda _: ok(f"{url}/ready") and ok(f"{url}{_QUERY}?{_ANY}"),
        ) as process:
            yield Loki(process, url)


def _config(folder: Path, http: int, grpc: int) -> dict[str, object]:
    data = folder / "data"
    return {
        "auth_enabled": False,
        "analytics": {"reporting_enabled": False},  # nothing leaves this machine
        "server": {
            "http_listen_address": LOOPBACK,
            "http_listen_port": http,
            "grpc_listen_address": LOOPBACK,
            "grpc_listen_port": grpc,
            "log_level": "warn",
        },
        "common": {
            "instance_addr": LOOPBACK,
            "path_prefix": str(data),
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}},
            "storage": {
                "filesystem": {
                    "chunks_directory": str(data / "chunks"),
                    "rules_directory": str(data / "rules"),
                }
            },
        },
        # A single ingester has no ring to settle in, so it need not wait its usual 15 seconds.
        "ingester": {"lifecycler": {"min_ready_duration": "0s", "final_sleep": "0s"}},
        "frontend": {"scheduler_dns_lookup_period": "100ms"},
        "frontend_worker": {"dns_lookup_duration": "100ms"},
        "query_range": {"cache_results": False},  # a test asks again until the line is there
        "schema_config": {
            "configs": [
                {
                    "from": "2024-01-01",
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
    }
