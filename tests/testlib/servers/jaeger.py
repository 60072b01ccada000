"""A real Jaeger on loopback, with its memory as storage."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from tests.testlib.process import LOOPBACK, ServerProcess, free_port, run_server
from tests.testlib.servers.web import Json, http_get, is_ok


@dataclass(frozen=True)
class Jaeger:
    """A running Jaeger with its JSON API, which has what its search page shows."""

    process: ServerProcess
    grpc: str
    """OTLP/gRPC, as host:port."""
    http: str
    """OTLP/HTTP, as a base URL without /v1; for traces only."""
    api: str
    """Base URL of the JSON API."""

    def services(self) -> list[str]:
        """Return the names of the services that have sent spans."""
        return list(http_get(f"{self.api}/services").json()["data"] or [])

    def traces(self, service: str, *, limit: int = 100, **search: str) -> list[Json]:
        """Return a service's traces of the last two days.

        Args:
            service: the exact `service.name`.
            limit: how many at most.
            search: more of the search page's fields, such as operation, or tags as JSON.
        """
        params = {"service": service, "limit": str(limit), "lookback": "48h", **search}
        return list(http_get(f"{self.api}/traces", params).json()["data"])

    def trace(self, trace_id: str) -> Json | None:
        """Return the trace with this id (32 hexadecimal digits), or None."""
        reply = http_get(f"{self.api}/traces/{trace_id}")
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        found: Json = reply.json()["data"][0]
        return found


@contextmanager
def run_jaeger(binary: Path) -> Iterator[Jaeger]:
    """Run the binary from `build_binary("jaeger")`, empty, on free ports.

    Raises:
        ServerError: it did not start; says why.
    """
    grpc, http, api, query = (f"{LOOPBACK}:{free_port()}" for _ in range(4))
    with tempfile.TemporaryDirectory(prefix="jaeger-") as temporary:
        folder = Path(temporary)
        config = folder / "config.yaml"
        content = _config(grpc=grpc, http=http, api=api, query=query)
        config.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
        with run_server(
            "jaeger",
            [binary, "--config", config],
            folder=folder,
            ready=lambda _: is_ok(f"http://{api}/api/services"),
        ) as process:
            yield Jaeger(process, grpc, f"http://{http}", f"http://{api}/api")


def _config(*, grpc: str, http: str, api: str, query: str) -> dict[str, object]:
    return {
        "receivers": {
            "otlp": {"protocols": {"grpc": {"endpoint": grpc}, "http": {"endpoint": http}}}
        },
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 100_000}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": api},
                "grpc": {"endpoint": query},
                "enable_tracing": False,  # it would send its own spans to port 4317
            },
        },
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {
                "traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}
            },
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
