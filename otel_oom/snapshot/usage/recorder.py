"""The flight recorder: a thread that samples usage, and answers for the minutes before a kill.

Its thread has the priority of the others. At a lower one, a busy host would stop it while it holds
the interpreter's lock, which the capture of a kill needs.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from otel_oom.config.usage import UsageConfig
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boottime_ns
from otel_oom.model.events import OomKill, UserspaceKill
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import HostMemory, Snapshot
from otel_oom.model.units import NS_PER_S
from otel_oom.model.usage import UsageHistory
from otel_oom.snapshot.usage.crossings import CrossingWatch
from otel_oom.snapshot.usage.history import build_kill_history
from otel_oom.snapshot.usage.near_limit import NearLimitWatch
from otel_oom.snapshot.usage.sampler import UsageSampler

_LOG = logging.getLogger(__name__)

THREAD_NAME: Final = "usage"

_CHANGED_ROUNDS: Final = 3
"""Rounds in a row after which it is logged that cgroups are sampled less often, or no longer."""
_RETRY_S: Final = 60.0


class UsageRecorder:
    """The recorder of usage; its thread runs from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        config: UsageConfig,
        mount: CgroupMount | None,
        record_near_limit: Callable[[NearLimit, Snapshot], None] = lambda _, __: None,
    ) -> None:
        """Record as ``config`` says; without ``mount``, the host alone.

        ``record_near_limit`` gets each cgroup that comes near its limit, if that is configured.
        """
        self._interval_ns = int(config.interval_s * NS_PER_S)
        self.sampler = UsageSampler(mount, self._interval_ns, config.sample_count)
        self._epoll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._stop, select.EPOLLIN)
        self.crossings = CrossingWatch(
            self._epoll,
            self.sampler.path_of,
            self.sampler.holder_of,
            v1=bool(mount and mount.v1),
        )
        self._near_limit: NearLimitWatch | None = None
        if mount is not None and config.near_limit_percent:
            self._near_limit = NearLimitWatch(
                mount, self.sampler, config.near_limit_percent, record_near_limit
            )
        self.is_capturing = False
        """Set by the thread that captures while it records a kill: sampling pauses."""
        self.samples_less = False
        self._changed_rounds = 0
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close all files."""
        os.eventfd_write(self._stop, 1)
        if self._thread.ident is not None:
            self._thread.join()
        self.sampler.close()
        self.crossings.close()
        self._epoll.close()
        os.close(self._stop)

    def count_cgroups(self) -> tuple[int, int]:
        """Return the number of cgroups that are sampled, and of those in the last round."""
        return self.sampler.limited_count, self.sampler.sampled_count

    def build_history(
        self, kill: OomKill | UserspaceKill, host: HostMemory | None
    ) -> UsageHistory | None:
        """Return the usage before a kill; ``host`` is the memory just after it.

        It takes no lock, and its time does not grow with the number of cgroups.
        """
        if kill.capture.recovered:
            return None
        return build_kill_history(self.sampler, self.crossings, kill, host)

    def _run(self) -> None:
        # For top(1) and the bench, which show the CPU time of each thread.
        with suppress(OSError):
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(THREAD_NAME)
        is_stopped = not self._attempt(self.sampler.walk)
        while not is_stopped and not self._wait_for_round():
            is_stopped = not self._attempt(self._sample)

    def _attempt(self, step: Callable[[], object]) -> bool:
        """Call ``step``; if it fails, wait. Return false to stop."""
        try:
            step()
        except Exception:  # noqa: BLE001  usage is less important than all else
            _LOG.exception("Usage: sampling failed; retrying in %.0f s", _RETRY_S)
            return not self._is_stopped(_RETRY_S)
        return True

    def _wait_for_round(self) -> bool:
        """Wait for the next multiple of the interval; return whether to stop."""
        due_ns = (boottime_ns() // self._interval_ns + 1) * self._interval_ns
        while (left_ns := due_ns - boottime_ns()) > 0:
            if self._is_stopped(left_ns / NS_PER_S):
                return True
        return False

    def _is_stopped(self, timeout_s: float) -> bool:
        for descriptor, _ in self._epoll.poll(timeout_s):
            if descriptor == self._stop:
                return True
            self.crossings.on_signal(descriptor)
        return False

    def _sample(self) -> None:
        # A kill takes a few milliseconds: a late sample is better than none.
        for _ in range(10):
            if not self.is_capturing:
                break
            time.sleep(0.01)
        self.sampler.sample(boottime_ns() // self._interval_ns, lambda: self.is_capturing)
        self.crossings.begin_round(self.sampler.open_nodes)
        if self._near_limit is not None:
            self._near_limit.check(self.sampler.list_sampled(), lambda: self.is_capturing)
        self._log_change()

    def _log_change(self) -> None:
        tree = self.sampler.tree
        if self.sampler.samples_less == self.samples_less or not (tree and tree.is_complete):
            self._changed_rounds = 0
            return
        self._changed_rounds += 1
        if self._changed_rounds < _CHANGED_ROUNDS:
            return
        self.samples_less, self._changed_rounds = self.sampler.samples_less, 0
        _LOG.info(
            "Usage: %s: sampled=%d of cgroups=%d each %g s",
            "cgroups far from their limit are sampled less often"
            if self.samples_less
            else "all cgroups are sampled each time again",
            self.sampler.sampled_count,
            self.sampler.limited_count,
            self._interval_ns / NS_PER_S,
        )
