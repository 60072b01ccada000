"""The end of a victim: its exit or survival, and the steps of the kernel's oom_reaper before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.events import OomKill, ReaperStep
from otel_oom.model.units import MS_PER_S, NS_PER_S, format_bytes
from otel_oom.otlp import entity_attributes as entities
from otel_oom.otlp import semconv
from otel_oom.otlp.semconv import Attributes, Value

_SIGNAL_BITS: Final = 0x7F

_PROCESS_NAMES: Final = frozenset(
    {
        *("process.pid", "process.vpid", "process.creation.time", "process.executable.name"),
        semconv.VICTIM_COMM,
    }
)


class VictimEnd(Struct, frozen=True):
    """The exit of a victim, or that it was alive, as a span event and the name of a log event."""

    name: str
    unix_ns: int
    attributes: Attributes

    @property
    def exited(self) -> bool:
        """True for an exit."""
        return self.name == semconv.EVENT_VICTIM_EXITED


def find_end(enriched: EnrichedKill) -> VictimEnd | None:
    """Return how the victim ended; ``None`` if neither exit nor survival is known."""
    kill, outcome = enriched.event, enriched.victim_outcome
    if outcome.exit:
        attributes: Attributes = {
            semconv.VICTIM_EXIT_DELAY: _delay_s(kill, outcome.exit.boottime_ns)
        }
        if outcome.exit.exit_code is not None:
            attributes[semconv.VICTIM_EXIT_SIGNAL] = outcome.exit.exit_code & _SIGNAL_BITS
        # The kernel sends the signal before the mark: on another CPU the victim may exit first.
        unix_ns = max(kill.time_unix_ns, kill.to_unix_ns(outcome.exit.boottime_ns))
        return VictimEnd(semconv.EVENT_VICTIM_EXITED, unix_ns, attributes)
    if outcome.alive:
        unix_ns = kill.to_unix_ns(outcome.alive.boottime_ns)
        state: Attributes = {semconv.VICTIM_STATE: outcome.alive.state}
        return VictimEnd(semconv.EVENT_VICTIM_ALIVE, unix_ns, state)
    return None


def end_attributes(enriched: EnrichedKill, end: VictimEnd | None) -> dict[str, Value | None]:
    """Return the attributes of the end that span and log event share."""
    return {
        semconv.VICTIM_EXITED: end.exited if end else None,
        "process.exit.time": entities.format_unix_ns(end.unix_ns) if end and end.exited else None,
        semconv.VICTIM_MEMORY_REAPED: enriched.victim_outcome.reaped_bytes,
    }


def end_event_attributes(enriched: EnrichedKill, end: VictimEnd) -> Attributes:
    """Return the attributes of the log event of the end, whose uid is derived from the kill's."""
    kill = enriched.event
    process = entities.process_attributes(kill, enriched.executable, enriched.snapshot)
    return entities.drop_none(
        {
            "log.record.uid": kill.end_uid,
            semconv.KILL_ID: kill.uid,
            semconv.INCIDENT_ID: kill.incident or kill.uid,
            semconv.OUTCOME: enriched.outcome,
            **{name: value for name, value in process.items() if name in _PROCESS_NAMES},
            semconv.VICTIM_MEMORY_RESIDENT: kill.memory.resident if kill.memory else None,
            **end.attributes,
            **end_attributes(enriched, end),
            **_reaper_attributes(kill, enriched.victim_outcome.reaper),
        }
    )


def _reaper_attributes(kill: OomKill, steps: Sequence[ReaperStep]) -> dict[str, Value | None]:
    """Return when each stage was; of several attempts, the first start and the last finish."""
    delays_s: dict[str, float] = {}
    for step in steps:
        if step.stage == "finish" or step.stage not in delays_s:
            delays_s[step.stage] = _delay_s(kill, step.boottime_ns)
    residents = [step.resident for step in steps if step.resident is not None]
    return {
        **{f"{semconv.REAPER_DELAY}.{stage}": delay_s for stage, delay_s in delays_s.items()},
        semconv.REAPER_ATTEMPTS: sum(step.stage == "start" for step in steps) or None,
        semconv.REAPER_RESIDENT: residents[-1] if residents else None,
    }


def _delay_s(kill: OomKill, boottime_ns: int) -> float:
    return max(0, boottime_ns - kill.boottime_ns) / NS_PER_S


def end_body(enriched: EnrichedKill, end: VictimEnd) -> str:
    """Return one sentence with the victim, and the time since the kernel's mark."""
    kill, reaped = enriched.event, enriched.victim_outcome.reaped_bytes
    pid = "" if kill.victim.tgid is None else f" (pid {kill.victim.tgid})"
    delay_ms = (end.unix_ns - kill.time_unix_ns) / NS_PER_S * MS_PER_S
    action = "exited" if end.exited else f"is in state {end.attributes[semconv.VICTIM_STATE]}"
    still = "" if end.exited else " and has not exited"
    reaper = "" if reaped is None else f"; the oom_reaper freed {format_bytes(reaped)}"
    return (
        f"{kill.victim.comm or 'A process'}{pid} {action}{still} {delay_ms:.1f} ms after the "
        f"kernel's OOM killer chose it{reaper}."
    )
