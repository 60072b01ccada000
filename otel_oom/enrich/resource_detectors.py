"""What OpenTelemetry's resource detectors tell of the host, such as those of cloud providers.

The user installs them beside the agent, and names them in ``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS``,
as for any other program with the SDK. They ask over the network, and are other people's code: each
runs in a thread of its own, and what has not answered in time is gone without.
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
"""For all of them together."""
_EVERY: Final = "*"

_Answer = tuple[str, dict[str, AttributeValue] | Exception]


def detected(names: Sequence[str], deadline_s: float = DEADLINE_S) -> dict[str, AttributeValue]:
    """The attributes that the detectors of these names find; a later one goes before an earlier.

    ``*`` is every detector that is installed. What fails or is late is logged, and no error.
    """
    installed = entry_points(group=GROUP)
    if _EVERY in names:
        names = sorted(installed.names)
    answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
    waiting = []
    for name in dict.fromkeys(names):
        if name not in installed.names:
            others = ", ".join(sorted(installed.names)) or "none"
            _LOG.warning("No resource detector %r is installed; there are: %s", name, others)
            continue
        waiting.append(name)
        entry = next(iter(installed.select(name=name)))
        threading.Thread(
            target=_ask, args=(entry, answers), name=f"detect {name}", daemon=True
        ).start()
    found = _answered(waiting, answers, deadline_s)
    return {key: value for name in waiting for key, value in found.get(name, {}).items()}


def _answered(
    names: Sequence[str], answers: queue.SimpleQueue[_Answer], deadline_s: float
) -> dict[str, dict[str, AttributeValue]]:
    deadline = time.monotonic() + deadline_s
    found: dict[str, dict[str, AttributeValue]] = {}
    missing = set(names)
    while missing:
        try:
            name, answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            late = ", ".join(sorted(missing))
            _LOG.warning("No answer within %.0f s from the resource detector %s", deadline_s, late)
            break
        missing.discard(name)
        if isinstance(answer, Exception):
            _LOG.warning(
                "The resource detector %s failed: %s: %s", name, type(answer).__name__, answer
            )
        else:
            found[name] = answer
    return found


def _ask(entry: EntryPoint, answers: queue.SimpleQueue[_Answer]) -> None:
    try:
        detector: ResourceDetector = entry.load()()
        answers.put((entry.name, dict(detector.detect().attributes or {})))
    except Exception as error:  # noqa: BLE001  other people's code
        answers.put((entry.name, error))
