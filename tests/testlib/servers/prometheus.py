"""A real Prometheus on loopback, with a temporary folder as storage."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.testlib.process import LOOPBACK, ServerProcess, free_port, run_server
from tests.testlib.servers.web import http_get, is_ok


@dataclass(frozen=True)
class Sample:
    """A series in the result of a query: its labels, and its value."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus with its query API."""

    process: ServerProcess
    url: str
    """Base URL."""

    @property
    def otlp(self) -> str:
        """Return the base URL of its OTLP receiver, without /v1; for metrics only."""
        return f"{self.url}/api/v1/otlp"

    def query(self, promql: str) -> list[Sample]:
        """Return the series that an instant query finds.

        Raises:
            ValueError: Prometheus rejected the query; says why.
        """
        reply = http_get(f"{self.url}/api/v1/query", {"query": promql})
        if reply.status != HTTPStatus.OK:
            raise ValueError(f"HTTP {reply.status}: {reply.body[:500]!r}")
        data = reply.json()["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(row["metric"], float(row["value"][1])) for row in data["result"]]


@contextmanager
def run_prometheus(
    binary: Path, config: Mapping[str, Any] | None = None, *flags: str
) -> Iterator[Prometheus]:
    """Run the binary from `build_binary("prometheus")`, empty, on a free port.

    It receives OTLP, and scrapes and evaluates what ``config`` says. ``flags`` are added.

    Raises:
        ServerError: it did not start; says why.
    """
    address = f"{LOOPBACK}:{free_port()}"
    with tempfile.TemporaryDirectory(prefix="prometheus-") as temporary:
        folder = Path(temporary)
        file = folder / "prometheus.yaml"
        file.write_text(json.dumps(config or {}), encoding="utf-8")  # JSON is YAML
        options = [
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--web.enable-otlp-receiver",
            *flags,
        ]
        with run_server(
            "prometheus",
            [binary, *options],
            folder=folder,
            ready=lambda _: is_ok(f"http://{address}/-/ready"),
        ) as process:
            yield Prometheus(process, f"http://{address}")
