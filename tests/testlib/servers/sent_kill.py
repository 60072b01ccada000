"""Telemetry of a kill that a test sends to a Collector itself."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.testlib.servers.collector import Collector
from tests.testlib.servers.web import HttpReply, Json, http_post
from tests.testlib.wait import wait_until


@dataclass(frozen=True)
class SentKill:
    """A log record and a span of a kill as OTLP/JSON, of a service of its own."""

    service: str = field(default_factory=lambda: f"shop-{secrets.token_hex(4)}")
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    time: int = field(default_factory=time.time_ns)
    resource: Mapping[str, str] = field(default_factory=dict)
    """Attributes beside the name of the service."""
    scope: str = "test"
    """Name of the instrumentation scope."""

    def send(self, to: Collector) -> None:
        """Post both, which must be accepted."""
        assert self.send_log(to).status == 200
        assert self.send_span(to).status == 200

    def send_log(self, to: Collector) -> HttpReply:
        """Post the log record."""
        return self.send_logs(to, "oom.kill")

    def send_logs(self, to: Collector, *event_names: str) -> HttpReply:
        """Post log records with these event names, of one resource in one request."""
        record = {
            "timeUnixNano": str(self.time),
            "severityNumber": 21,
            "body": {"stringValue": f"{self.service} was killed"},
            "traceId": self.trace_id,
            "spanId": self.trace_id[:16],
        }
        records = [{**record, "eventName": name} for name in event_names]
        scopes = [{"scope": {"name": self.scope}, "logRecords": records}]
        body = {"resourceLogs": [{"resource": self._resource(), "scopeLogs": scopes}]}
        return http_post(f"{to.http}/v1/logs", body)

    def send_span(self, to: Collector) -> HttpReply:
        """Post the span."""
        span = {
            "traceId": self.trace_id,
            "spanId": self.trace_id[:16],
            "name": "oom.kill",
            "kind": 1,
            "startTimeUnixNano": str(self.time),
            "endTimeUnixNano": str(self.time + 1_000_000),
        }
        scopes = [{"scope": {"name": self.scope}, "spans": [span]}]
        body = {"resourceSpans": [{"resource": self._resource(), "scopeSpans": scopes}]}
        return http_post(f"{to.http}/v1/traces", body)

    def send_metric(self, to: Collector) -> HttpReply:
        """Post a count of one with the service as its owner; the resource is an agent."""
        owner = _pairs({"service.name": self.service})
        points = [{"asInt": "1", "timeUnixNano": str(self.time), "attributes": owner}]
        counter = {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": points}
        scopes = [{"metrics": [{"name": "oom.kills", "sum": counter}]}]
        agent = {"attributes": _pairs({**self.resource, "service.name": "otel-oom"})}
        body = {"resourceMetrics": [{"resource": agent, "scopeMetrics": scopes}]}
        return http_post(f"{to.http}/v1/metrics", body)

    def _resource(self) -> Json:
        return {"attributes": _pairs({"service.name": self.service, **self.resource})}


def _pairs(attributes: Mapping[str, str]) -> list[Json]:
    return [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()]


def wait_until_printed(server: Collector, *words: str) -> str:
    """Wait until the Collector's log has these words; return the log."""
    output = server.process.output
    wait_until(lambda: all(word in output() for word in words), f"{words} in the log")
    return output()
