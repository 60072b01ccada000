"""Any event of the journal as OTLP: enriched, then encoded, each by its type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from otel_oom.enrich import Host, VictimOutcome, enrich, enrich_no_victim, enrich_panic
from otel_oom.model.events import MissedKills, NoVictim, Panic, StoredEvent, UserspaceKill
from otel_oom.otlp import kernel_kill
from otel_oom.snapshot import Snapshot
from otel_oom.store.counters import KILLS


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """What an event is told as: OTLP requests, each made when it is asked for.

    ``span`` is ``None`` for what has none. ``counts`` are counters of no boot that it raises.
    """

    log: Callable[[], bytes]
    span: Callable[[], bytes] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def encode_event(
    event: StoredEvent,
    witness: Snapshot,
    end: VictimOutcome,
    stored_unix_ns: int,
    host: Host,
) -> EncodedEvent:
    """What ``event`` is told as, by what is known of it; ``end`` is of a kill alone.

    ``host`` is this one: of what was found in another's log, it tells nothing.
    """
    host = host.of(event)
    if isinstance(event, MissedKills):
        return EncodedEvent(
            lambda: kernel_kill.missed_bytes(event, stored_unix_ns, host.attributes),
            counts={KILLS + kernel_kill.missed_label(): event.count},
        )
    if isinstance(event, NoVictim):
        no_victim = enrich_no_victim(event, stored_unix_ns, host, witness.containers)
        return EncodedEvent(lambda: kernel_kill.no_victim_bytes(no_victim))
    if isinstance(event, Panic):
        panic = enrich_panic(event, stored_unix_ns, host)
        return EncodedEvent(lambda: kernel_kill.panic_bytes(panic))
    if isinstance(event, UserspaceKill):
        return _by_userspace(event, witness, stored_unix_ns, host)
    kill = enrich(event, witness, end, stored_unix_ns, host)
    return EncodedEvent(
        lambda: kernel_kill.log_bytes(kill),
        lambda: kernel_kill.span_bytes(kill),
        {KILLS + kernel_kill.kill_label(kill): 1},
    )


def _by_userspace(
    event: UserspaceKill, witness: Snapshot, stored_unix_ns: int, host: Host
) -> EncodedEvent:
    from otel_oom.enrich.userspace_kill import enrich_userspace_kill  # noqa: PLC0415  few hosts have any
    from otel_oom.otlp import userspace_kill  # noqa: PLC0415  likewise

    told = enrich_userspace_kill(event, witness, stored_unix_ns, host)
    return EncodedEvent(
        lambda: userspace_kill.userspace_log_bytes(told),
        lambda: userspace_kill.userspace_span_bytes(told),
        {KILLS + userspace_kill.userspace_label(told): 1},
    )
