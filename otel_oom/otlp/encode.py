"""Any event of the journal as OTLP: enriched, then encoded, each by its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from otel_oom import otlp
from otel_oom.enrich import End, Host, enrich, enrich_no_victim, enrich_panic
from otel_oom.event import Missed, NoVictim, Panic, Recorded, UserspaceKill
from otel_oom.store.counters import KILLS
from otel_oom.witness import Witness


@dataclass(frozen=True, slots=True)
class Translation:
    """What an event is told as: OTLP requests, each made when it is asked for.

    ``span`` is ``None`` for what has none. ``counts`` are counters of no boot that it raises.
    """

    log: Callable[[], bytes]
    span: Callable[[], bytes] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def translate(
    event: Recorded,
    witness: Witness,
    end: End,
    stored_unix_ns: int,
    host: Host,
) -> Translation:
    """What ``event`` is told as, by what is known of it; ``end`` is of a kill alone.

    ``host`` is this one: of what was found in another's log, it tells nothing.
    """
    host = host.of(event)
    if isinstance(event, Missed):
        return Translation(
            lambda: otlp.missed_bytes(event, stored_unix_ns, host.attributes),
            counts={KILLS + otlp.missed_label(): event.count},
        )
    if isinstance(event, NoVictim):
        no_victim = enrich_no_victim(event, stored_unix_ns, host, witness.containers)
        return Translation(lambda: otlp.no_victim_bytes(no_victim))
    if isinstance(event, Panic):
        panic = enrich_panic(event, stored_unix_ns, host)
        return Translation(lambda: otlp.panic_bytes(panic))
    if isinstance(event, UserspaceKill):
        return _by_userspace(event, witness, stored_unix_ns, host)
    kill = enrich(event, witness, end, stored_unix_ns, host)
    return Translation(
        lambda: otlp.log_bytes(kill),
        lambda: otlp.span_bytes(kill),
        {KILLS + otlp.kill_label(kill): 1},
    )


def _by_userspace(
    event: UserspaceKill, witness: Witness, stored_unix_ns: int, host: Host
) -> Translation:
    from otel_oom.enrich.userspace import enrich_userspace_kill  # noqa: PLC0415  few hosts have any
    from otel_oom.otlp import userspace  # noqa: PLC0415  likewise

    told = enrich_userspace_kill(event, witness, stored_unix_ns, host)
    return Translation(
        lambda: userspace.userspace_log_bytes(told),
        lambda: userspace.userspace_span_bytes(told),
        {KILLS + userspace.userspace_label(told): 1},
    )
