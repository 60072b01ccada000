"""Match the messages of userspace OOM daemons to the signals that they sent.

The kernel shows which processes a daemon killed, the journal shows why. A daemon sends its signals
before it reports a cgroup, and about when it reports a process.
"""

from __future__ import annotations

import logging
import select
import signal
from collections import OrderedDict
from collections.abc import Collection
from heapq import nlargest
from typing import TYPE_CHECKING, Final

from otel_oom.capture.source import CaptureError
from otel_oom.linux import clock
from otel_oom.model.events import OomKill
from otel_oom.model.types import OomTask, TaskList
from otel_oom.model.units import NS_PER_S

if TYPE_CHECKING:  # imported late, see open()
    from otel_oom.capture.bpf.daemon_signals import DaemonSignal, DaemonSignalReader

    _Signals = OrderedDict[tuple[int | None, int | None], DaemonSignal]

_LOG = logging.getLogger(__name__)

_MAX_SIGNALS: Final = 4096
_MAX_LARGEST: Final = 64
_VALID_NS: Final = 120 * NS_PER_S
"""A signal that waits longer is of a kill that no message reports."""
_MAX_KILL_NS: Final = 30 * NS_PER_S
"""The longest time from the first signal of a kill to its message."""
_MAX_REQUEST_NS: Final = 10 * NS_PER_S
"""The longest time from a request by sysrq to the kernel's kill."""


class DaemonSignals:
    """The last signals of the daemons, by process; none before :meth:`open`."""

    def __init__(self, epoll: select.epoll) -> None:
        """Prepare; signals make ``epoll`` readable."""
        self._epoll = epoll
        self._reader: DaemonSignalReader | None = None
        self._signals: _Signals = OrderedDict()
        self._reported: _Signals = OrderedDict()
        self._dropped = self._lost = self._skipped = 0
        self._lost_ns = -_MAX_KILL_NS
        self._failed = False

    @property
    def is_open(self) -> bool:
        """True while signals are recorded."""
        return self._reader is not None

    def open(self) -> None:
        """Start to record, once; a host that does not allow it is logged."""
        if self._reader is not None or self._failed:
            return
        from otel_oom.capture.bpf.daemon_signals import DaemonSignalReader  # noqa: PLC0415  few hosts have a daemon

        try:
            self._reader = DaemonSignalReader()
        except (CaptureError, OSError) as error:
            _LOG.warning(
                "Userspace OOM daemons: signals not recorded: killed processes are known by "
                "systemd-oomd's hook only: %s",
                error,
            )
            self._failed = True
            return
        self._epoll.register(self._reader, select.EPOLLIN)

    def close(self) -> None:
        """Stop recording."""
        if self._reader is not None:
            self._epoll.unregister(self._reader)
            self._reader.close()
            self._reader = None

    def poll(self) -> None:
        """Take over the signals that the kernel has recorded."""
        if self._reader is None:
            return
        for sent in self._reader.read_signals():
            key = sent.victim.tgid, sent.victim.start_boottime_ns
            # A daemon kills a process again that still exits.
            if key not in self._reported:
                self._signals[key] = sent
        self._dropped += _drop_oldest(self._signals)
        _drop_oldest(self._reported)

    def take_process(self, sender: int | None, tgid: int | None) -> DaemonSignal | None:
        """Return the signal of the daemon ``sender`` to a process, once."""
        self.poll()
        for key, sent in self._signals.items():
            if key[0] == tgid and sender == sent.sender.tgid:
                return self._signals.pop(key)
        return None

    def take_cgroup(self, sender: int | None, path: str) -> TaskList | None:
        """Return the processes below a cgroup that ``sender`` killed, once.

        The kernel has shown that the sender is a daemon: ``None`` is any of them.
        """
        self.poll()
        taken = {
            key: sent for key, sent in self._signals.items() if _is_kill_below(sent, sender, path)
        }
        if not taken:
            return None
        self._count_lost()
        skipped, self._skipped = self._skipped, 0
        for key in taken:
            del self._signals[key]
        self._reported.update(taken)
        return _list_tasks(path, taken.values(), skipped)

    def is_reported(self, sender: int | None, path: str) -> bool:
        """Return true if the last processes that ``sender`` killed below a cgroup were taken."""
        return any(_is_kill_below(sent, sender, path) for sent in self._reported.values())

    def find_requester(self, kill: OomKill) -> str | None:
        """Return the unit of the daemon that requested a kill of the kernel by sysrq."""
        if self._reader is None:
            return None
        request = self._reader.find_sysrq_request(kill.boottime_ns)
        if request is None or kill.boottime_ns - request[0] > _MAX_REQUEST_NS:
            return None
        return request[1] or None

    def are_complete(self, sender: int | None, boottime_ns: int) -> bool:
        """Return true if all signals of a kill are known, each with the whole path of its cgroup.

        ``sender`` reported the kill at ``boottime_ns``. False if signals of that time were lost:
        a user can make paths that are too long for a record.
        """
        self._count_lost()
        since_ns = boottime_ns - _MAX_KILL_NS
        if self._lost_ns >= since_ns or since_ns < clock.boottime_ns() - _VALID_NS:
            return False
        return not any(
            (sent.memcg is None or sent.memcg.path_cut)
            and sent.number == signal.SIGKILL
            and sent.boottime_ns >= since_ns
            and sender in {None, sent.sender.tgid}
            for sent in self._signals.values()
        )

    def _count_lost(self) -> None:
        """Note the signals that were lost since the last call."""
        lost = self._dropped + (self._reader.count_lost() if self._reader else 0)
        if lost > self._lost:
            self._skipped += lost - self._lost
            self._lost, self._lost_ns = lost, clock.boottime_ns()


def _drop_oldest(signals: _Signals) -> int:
    """Drop signals at the limits; return how many of them were still valid."""
    oldest_ns, dropped = clock.boottime_ns() - _VALID_NS, 0
    while signals:
        is_valid = next(iter(signals.values())).boottime_ns >= oldest_ns
        if is_valid and len(signals) <= _MAX_SIGNALS:
            break
        dropped += is_valid
        signals.popitem(last=False)
    return dropped


def _is_kill_below(sent: DaemonSignal, sender: int | None, path: str) -> bool:
    return (
        sent.memcg is not None
        and f"{sent.memcg.path}/".startswith(f"{path.rstrip('/')}/")
        and sent.number == signal.SIGKILL
        and sender in {None, sent.sender.tgid}
    )


def _list_tasks(path: str, signals: Collection[DaemonSignal], skipped: int) -> TaskList:
    tasks = [_task_of(sent) for sent in signals]
    first_ns = min(sent.boottime_ns for sent in signals)
    largest = tuple(nlargest(_MAX_LARGEST, tasks, key=lambda task: task.total_bytes))
    return TaskList(path, first_ns, len(tasks), skipped, largest)


def _task_of(sent: DaemonSignal) -> OomTask:
    victim, memory = sent.victim, sent.memory
    return OomTask(
        tgid=victim.tgid or 0,
        comm=victim.comm or "",
        resident=memory.resident if memory else 0,
        swap=memory.swap if memory else None,
        page_tables=memory.page_tables if memory else None,
        uid=victim.uid,
        score_adj=victim.score_adj,
        memcg=sent.memcg.path if sent.memcg else None,
    )
