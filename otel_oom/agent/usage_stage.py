"""The recorder of usage and the events of its own: what runs wherever kills are recorded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from otel_oom.agent.near_limit import NearLimitRecorder
from otel_oom.agent.stats import Stats
from otel_oom.config.usage import UsageConfig
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.snapshot.usage import UsageSource
from otel_oom.store import Store

_LOG = logging.getLogger(__name__)


@contextmanager
def run_usage_recorder(
    config: UsageConfig, store: Store, stats: Stats, on_event: Callable[[], None]
) -> Iterator[UsageSource | None]:
    """Yield the running recorder; ``None`` if it is switched off, or can't run.

    ``on_event`` is called after each event about a cgroup near its limit, from its thread.
    """
    if not config.interval_s:
        yield None
        return
    from otel_oom.snapshot.usage.recorder import UsageRecorder  # noqa: PLC0415  after capture has begun

    near_limit = NearLimitRecorder(store, stats, on_event)
    try:
        recorder = UsageRecorder(config, CgroupMount.find(), near_limit.record)
        recorder.start()
    except (OSError, RuntimeError) as error:
        _LOG.warning("Usage before kills is not recorded: %s", error)
        yield None
        return
    stats.count_usage_cgroups = recorder.count_cgroups
    try:
        yield recorder
    finally:
        recorder.stop()
