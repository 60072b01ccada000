"""A backend that records its telemetry in a file: a real Collector with a file exporter."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testlib.servers.collector import Collector, run_collector
from tests.testlib.servers.otlp_request import decode_json
from tests.testlib.servers.web import Json
from tests.testlib.telemetry_watch import check_telemetry

_FILE = "received.jsonl"
_CONFIG: Mapping[str, object] = {
    "receivers": {
        "otlp": {
            "protocols": {
                "grpc": {"endpoint": "${env:OTLP_GRPC_LISTEN}"},
                "http": {"endpoint": "${env:OTLP_HTTP_LISTEN}"},
            }
        }
    },
    "exporters": {"file": {"path": _FILE, "append": True, "flush_interval": "50ms"}},
    "service": {
        "pipelines": {
            signal: {"receivers": ["otlp"], "exporters": ["file"]}
            for signal in ("logs", "traces", "metrics")
        }
    },
}


@dataclass(frozen=True)
class Recorder:
    """A running backend with the telemetry that it has received."""

    collector: Collector

    @property
    def file(self) -> Path:
        """Return the file of OTLP/JSON, one request a line, of the Collector's file exporter."""
        return self.collector.process.folder / _FILE

    def requests(self) -> list[Json]:
        """Return the requests so far, oldest first, at most 50 ms late."""
        *complete, _half_written = self.file.read_bytes().split(b"\n")
        return [json.loads(line) for line in complete]

    def logs(self) -> list[Json]:
        """Return the log records so far, without their resource and scope."""
        return self._flat("resourceLogs", "scopeLogs", "logRecords")

    def spans(self) -> list[Json]:
        """Return the spans so far, without their resource and scope."""
        return self._flat("resourceSpans", "scopeSpans", "spans")

    def metrics(self) -> list[Json]:
        """Return the metrics so far, without their resource and scope."""
        return self._flat("resourceMetrics", "scopeMetrics", "metrics")

    def _flat(self, resources: str, scopes: str, items: str) -> list[Json]:
        return [
            item
            for request in self.requests()
            for resource in request.get(resources, [])
            for scope in resource.get(scopes, [])
            for item in scope.get(items, [])
        ]


@contextmanager
def run_recorder(
    binary: Path,
    *,
    receiver: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[Recorder]:
    """Run a recording backend; further arguments are those of `run_collector`.

    ``receiver`` adds to the settings of its OTLP protocols.
    """
    own = {"receivers": {"otlp": {"protocols": receiver or {}}}}
    with run_collector(binary, _CONFIG, own, env=env, folder=folder) as running:
        recorder = Recorder(running)
        yield recorder
        for request in recorder.requests():
            check_telemetry(decode_json(request))
