"""Events about lost events, and their numbers: loss is an event, never silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from msgspec import Struct

from otel_oom.model.event_base import Event


class MissedKills(Event, frozen=True, kw_only=True):
    """Kills of this boot that were counted and no event reports.

    ``count`` is their number. ``kernel_count`` is ``oom_kill`` of ``/proc/vmstat`` when they were
    missed, the time of this event. ``reason`` is ``before_first_start`` (of this agent on this
    boot), ``buffer_full`` (the kernel's ring buffer) or ``unknown``. ``upper_bound``: the kernel
    can count the first kill of a group twice, and its log, which shows that, was not readable.

    ``killer`` is the daemon that systemd counted in ``unit``; ``None`` for the kernel. Such a count
    is an upper bound too: systemd-oomd counts an action that finds no process.
    """

    kind: ClassVar[str] = "missed"

    count: int
    kernel_count: int
    reason: str
    upper_bound: bool = False
    killer: str | None = None
    unit: str | None = None

    @property
    def identity_key(self) -> str:
        """The unit, where one is known: there is one such event of it at a time."""
        return f"missed/{self.unit}" if self.unit else "missed"


class DroppedEvents(Event, frozen=True, kw_only=True):
    """Undelivered data of one holder that the store has dropped at its size limit.

    ``holder`` is the cgroup of the pod, container, user or service that it was of, empty if that is
    not known. ``count`` is the number of events, ``report_count`` of events that lost their kernel
    report and task list alone, ``dead_letter_count`` of rejected messages. ``start_unix_ns`` is the
    time of the first drop; the time of this event follows the last one.
    """

    kind: ClassVar[str] = "dropped"

    holder: str
    count: int
    report_count: int
    dead_letter_count: int
    start_unix_ns: int

    @property
    def identity_key(self) -> str:
        """The holder."""
        return f"dropped/{self.holder}"


class LostEvents(Struct, frozen=True):
    """Numbers of events that a source lost.

    ``victims`` and ``exits`` found the kernel's buffer full, or their holder's share of it;
    ``exits`` counts all but kills. ``victims_by_cgroup`` has the victims of the latest loss by the
    name of the holder's cgroup, empty where it is unknown.
    ``undecodable`` are records that this version can't decode, and damages of the buffer.
    ``log_lines`` of the kernel's log were overwritten before they could be read.
    """

    victims: int = 0
    exits: int = 0
    undecodable: int = 0
    log_lines: int = 0
    victims_by_cgroup: Mapping[str, int] = {}
