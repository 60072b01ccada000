"""Enriched events: all that their OTLP is made of."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.badness import RankedTask
from otel_oom.enrich.finding import Finding
from otel_oom.enrich.growth import Growth
from otel_oom.enrich.service_identity import ServiceIdentity
from otel_oom.enrich.stack_analysis import StackAnalysis
from otel_oom.linux.systemd.unit_files import UnitSetting
from otel_oom.model import events, loss
from otel_oom.model.near_limit import NearLimit
from otel_oom.model.snapshot import EventContainers, Snapshot
from otel_oom.store.types import RepeatedKill

Attributes = Mapping[str, AttributeValue]
"""Resource attributes by name."""


class StillAlive(Struct, frozen=True):
    """A victim that has not exited, at ``boottime_ns`` on CLOCK_BOOTTIME.

    ``state`` is the letter of proc_pid_stat(5), such as ``D`` for an uninterruptible sleep.
    """

    boottime_ns: int
    state: str


class VictimOutcome(Struct, frozen=True):
    """The known exit, reaper steps and survival of a victim."""

    exit: events.VictimExit | None = None
    reaper: tuple[events.ReaperStep, ...] = ()
    alive: StillAlive | None = None

    @property
    def reaped_bytes(self) -> int | None:
        """The memory that the oom_reaper freed in all its attempts; ``None`` if it did not run."""
        started = [step.resident for step in self.reaper if step.stage == "start"]
        finished = [step.resident for step in self.reaper if step.stage == "finish"]
        if not started or not finished or started[0] is None or finished[-1] is None:
            return None
        return max(0, started[0] - finished[-1])


class EnrichedKill(Struct, frozen=True):
    """A kill by the kernel.

    ``resource`` describes the victim, never the agent; ``service`` has the sources of its
    ``service.*``. ``command`` is redacted. ``cgroup_path`` is that of the victim; empty if it is
    not known. ``repeat`` is known to who has the history of the host. ``finding`` is ``None`` where
    no cause was decided.
    """

    event: events.OomKill
    snapshot: Snapshot
    victim_outcome: VictimOutcome
    observed_unix_ns: int
    executable: str | None
    command: tuple[str, ...] | None
    user_stack: tuple[str, ...]
    stack_analysis: StackAnalysis
    limit_scope: str | None
    limit_setting: UnitSetting | None
    ranked_tasks: tuple[RankedTask, ...]
    cgroup_path: str
    containers: EventContainers
    service: ServiceIdentity
    resource: Attributes
    repeat: RepeatedKill | None = None
    growth: Growth | None = None
    finding: Finding | None = None

    @property
    def outcome(self) -> str:
        """``killed``, ``already_exiting`` or ``skipped``."""
        if self.event.skipped:
            return "skipped"
        return "already_exiting" if self.event.already_exiting else "killed"


class EnrichedUserspaceKill(Struct, frozen=True):
    """A kill by a userspace OOM daemon; its fields are as in :class:`EnrichedKill`.

    ``verified``: a death confirms the daemon's message, which a victim can forge.
    """

    event: events.UserspaceKill
    snapshot: Snapshot
    verified: bool
    observed_unix_ns: int
    executable: str | None
    command: tuple[str, ...] | None
    cgroup_path: str
    containers: EventContainers
    service: ServiceIdentity
    resource: Attributes
    repeat: RepeatedKill | None = None
    finding: Finding | None = None

    @property
    def outcome(self) -> str:
        """``killed``, or ``signalled`` where the daemon logs before it kills."""
        return "killed" if self.event.completed or self.verified else "signalled"


class EnrichedNoVictim(Struct, frozen=True):
    """An OOM without a killable process."""

    event: events.NoVictim
    observed_unix_ns: int
    user_stack: tuple[str, ...]
    stack_analysis: StackAnalysis
    containers: EventContainers
    resource: Attributes


class EnrichedNearLimit(Struct, frozen=True):
    """A cgroup near its limit; ``resource`` and ``service`` are of the container or unit."""

    event: NearLimit
    snapshot: Snapshot
    observed_unix_ns: int
    limit_setting: UnitSetting | None
    ranked_tasks: tuple[RankedTask, ...]
    containers: EventContainers
    service: ServiceIdentity
    resource: Attributes


class EnrichedPanic(Struct, frozen=True):
    """An out-of-memory panic."""

    event: events.Panic
    observed_unix_ns: int
    stack_analysis: StackAnalysis
    resource: Attributes


class EnrichedMissedKills(Struct, frozen=True):
    """Kills that no event reports."""

    event: loss.MissedKills
    observed_unix_ns: int
    resource: Attributes


class EnrichedDroppedEvents(Struct, frozen=True):
    """Events of one holder that the store dropped; ``resource`` describes the holder."""

    event: loss.DroppedEvents
    observed_unix_ns: int
    resource: Attributes


EnrichedEvent = (
    EnrichedKill
    | EnrichedUserspaceKill
    | EnrichedNoVictim
    | EnrichedNearLimit
    | EnrichedPanic
    | EnrichedMissedKills
    | EnrichedDroppedEvents
)
