"""The agent's own metrics as a backend has received them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from otel_oom.commands.demo.receiver import Reply
from tests.testlib.servers.backend import attributes_to_dict
from tests.testlib.wait import wait_until


@dataclass(frozen=True)
class Point:
    """A data point; ``value`` of a histogram is its count."""

    attributes: dict[str, Any]
    value: float
    start_unix_ns: int
    unix_ns: int


class MetricsBackend:
    """A callback of :class:`Receiver` that keeps metrics; ``others`` gets all else."""

    def __init__(
        self,
        others: Callable[[Message], Reply | None] = lambda _: None,
        answer: Callable[[], Reply | None] = lambda: None,
    ) -> None:
        """Begin empty; ``answer`` may reject metrics."""
        self._others = others
        self._answer = answer
        self._mutex = threading.Lock()
        self.requests: list[ExportMetricsServiceRequest] = []

    def __call__(self, request: Message) -> Reply | None:
        """Receive one request."""
        if not isinstance(request, ExportMetricsServiceRequest):
            return self._others(request)
        reply = self._answer()
        if reply is None:
            with self._mutex:
                self.requests.append(request)
        return reply

    def next(self) -> None:
        """Wait until one more request has come that was collected from now on."""
        count = len(self.requests)
        # The first of the two may have been collected before.
        wait_until(lambda: len(self.requests) >= count + 2, "metrics come", limit=30)

    @property
    def resource(self) -> dict[str, Any]:
        """Return the resource of the last request."""
        return attributes_to_dict(self.requests[-1].resource_metrics[0].resource.attributes)

    def metrics(self, number: int = -1) -> dict[str, Any]:
        """Return the metrics of one request by name."""
        (group,) = self.requests[number].resource_metrics
        (scope,) = group.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    def points(self, name: str, number: int = -1) -> list[Point]:
        """Return the data points of a metric."""
        metric = self.metrics(number)[name]
        return [
            Point(
                attributes_to_dict(point.attributes),
                point.count
                if metric.WhichOneof("data").endswith("histogram")
                else getattr(point, point.WhichOneof("value")),
                point.start_time_unix_nano,
                point.time_unix_nano,
            )
            for point in getattr(metric, metric.WhichOneof("data")).data_points
        ]

    def value(self, name: str, /, **attributes: str) -> float:
        """Return the sum of the points with these attributes; ``_`` also stands for a dot."""
        return sum(
            point.value
            for point in self.points(name)
            if attributes.items()
            <= {key.replace(".", "_"): value for key, value in point.attributes.items()}.items()
        )
