"""The SDK's periodic reader, with a first interval that differs from host to host."""

from __future__ import annotations

import random
from contextlib import suppress

from opentelemetry.sdk.metrics import MetricsTimeoutError
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader


class SpreadMetricReader(PeriodicExportingMetricReader):
    """A periodic reader whose first interval is random, between half and one and a half.

    Hosts that start at one time, as after a power cut or a rollout, would otherwise export at
    one time for as long as they run.
    """

    def _ticker(self) -> None:
        interval_s = self._export_interval_millis / 1e3
        first_s = random.uniform(0.5 * interval_s, 1.5 * interval_s)  # noqa: S311  no secret
        if not self._shutdown_event.wait(first_s):
            with suppress(MetricsTimeoutError):
                self.collect(timeout_millis=self._export_timeout_millis)
        super()._ticker()  # which collects once more at the shutdown
