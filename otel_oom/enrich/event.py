"""Enrichment of any stored event, by its type."""

from __future__ import annotations

from otel_oom.enrich import (
    EnrichedKill,
    EnrichedMissedKills,
    EnrichedNoVictim,
    EnrichedPanic,
    Host,
    VictimOutcome,
    enrich,
    enrich_missed_kills,
    enrich_no_victim,
    enrich_panic,
)
from otel_oom.enrich.userspace_kill import EnrichedUserspaceKill, enrich_userspace_kill
from otel_oom.model.events import MissedKills, NoVictim, Panic, StoredEvent, UserspaceKill
from otel_oom.model.snapshot import Snapshot

EnrichedEvent = (
    EnrichedKill | EnrichedUserspaceKill | EnrichedNoVictim | EnrichedPanic | EnrichedMissedKills
)


def enrich_event(
    event: StoredEvent,
    witness: Snapshot,
    end: VictimOutcome,
    stored_unix_ns: int,
    host: Host,
) -> EnrichedEvent:
    """Add to ``event`` what this host knows of it.

    Args:
        event: of this host, or found in the log of another.
        witness: the snapshot of the moment of the kill.
        end: applies to kills by the kernel only.
        stored_unix_ns: the time at which it was stored.
        host: this host.
    """
    host = host.of(event)
    if isinstance(event, MissedKills):
        return enrich_missed_kills(event, stored_unix_ns, host)
    if isinstance(event, NoVictim):
        return enrich_no_victim(event, stored_unix_ns, host, witness.containers)
    if isinstance(event, Panic):
        return enrich_panic(event, stored_unix_ns, host)
    if isinstance(event, UserspaceKill):
        return enrich_userspace_kill(event, witness, stored_unix_ns, host)
    return enrich(event, witness, end, stored_unix_ns, host)
