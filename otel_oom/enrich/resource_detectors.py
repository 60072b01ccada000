"""Attributes of the host from OpenTelemetry's resource detectors, such as those of clouds.

The user installs them beside the agent and names them in ``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS``,
as for any program with the SDK. They are other people's code and use the network: each runs in a
thread of its own, and one that misses the deadline is ignored.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from opentelemetry.sdk.resources import ResourceDetector
from opentelemetry.util.types import AttributeValue

_LOG = logging.getLogger(__name__)

GROUP: Final = "opentelemetry_resource_detector"
DEADLINE_S: Final = 5.0
"""For all detectors together."""
_ALL: Final = "*"

_Result = tuple[str, dict[str, AttributeValue] | Exception]


def detect_resource(
    names: Sequence[str], deadline_s: float = DEADLINE_S
) -> dict[str, AttributeValue]:
    """Return the attributes of the detectors of these names; those of later ones win.

    ``*`` is every installed detector. A missing, failed or late detector is logged, not raised.
    """
    installed = entry_points(group=GROUP)
    if _ALL in names:
        names = sorted(installed.names)
    results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
    started = []
    for name in dict.fromkeys(names):
        if name not in installed.names:
            others = ", ".join(sorted(installed.names)) or "none"
            _LOG.warning("Resource detector %r is not installed; installed: %s", name, others)
            continue
        started.append(name)
        entry = next(iter(installed.select(name=name)))
        threading.Thread(
            target=_detect, args=(entry, results), name=f"detect {name}", daemon=True
        ).start()
    detected = _collect(started, results, deadline_s)
    return {key: value for name in started for key, value in detected.get(name, {}).items()}


def _collect(
    names: Sequence[str], results: queue.SimpleQueue[_Result], deadline_s: float
) -> dict[str, dict[str, AttributeValue]]:
    deadline = time.monotonic() + deadline_s
    detected: dict[str, dict[str, AttributeValue]] = {}
    missing = set(names)
    while missing:
        try:
            name, result = results.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            late = ", ".join(sorted(missing))
            _LOG.warning("Resource detector timed out after %.0f s: %s", deadline_s, late)
            break
        missing.discard(name)
        if isinstance(result, Exception):
            _LOG.warning("Resource detector %s failed: %s: %s", name, type(result).__name__, result)
        else:
            detected[name] = result
    return detected


def _detect(entry: EntryPoint, results: queue.SimpleQueue[_Result]) -> None:
    try:
        detector: ResourceDetector = entry.load()()
        results.put((entry.name, dict(detector.detect().attributes or {})))
    except Exception as error:  # noqa: BLE001  other people's code
        results.put((entry.name, error))
