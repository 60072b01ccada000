"""Log events on which the alerts of ``mixin/rules/`` fire, and others on which they do not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from otel_oom.enrich import event as enrich
from otel_oom.enrich.growth import Growth
from otel_oom.enrich.types import EnrichedEvent, EnrichedKill
from otel_oom.model.loss import MissedKills
from otel_oom.otlp.encode import encode_log
from otel_oom.store.types import RepeatedKill
from tests.testlib.samples.events import (
    DROPPED,
    HOST,
    KILL,
    NO_VICTIM,
    PANIC,
    sample_enriched_kill,
)

OWNER: Final = {
    "service.name": "shop",
    "service.namespace": "store",
    "k8s.namespace.name": "prod",
    "k8s.container.name": "web",
    "k8s.cluster.name": "eu-1",
    "k8s.node.name": "node-1",
}
"""Resource attributes of a victim that route its alert."""

_MINUTE_NS: Final = 60 * 10**9


@dataclass(frozen=True)
class EventCase:
    """Events of one host as minutes before now, and the alerts that fire of them."""

    what: str
    alerts: frozenset[str]
    build: Callable[[int], EnrichedEvent]
    minutes: tuple[float, ...] = (0,)

    def encode(self, host: str) -> list[bytes]:
        """Return OTLP requests, of this host."""
        return [
            encode_log(_move(self.build(int(time.time_ns() - minutes * _MINUTE_NS)), host))
            for minutes in self.minutes
        ]


def _move(enriched: EnrichedEvent, host: str) -> EnrichedEvent:
    return replace(enriched, resource={**enriched.resource, **OWNER, "host.name": host})


def _kill(time_ns: int, scope: str = "own", **changes: Any) -> EnrichedKill:  # noqa: ANN401  any field
    kill = sample_enriched_kill(time_unix_ns=time_ns, boottime_ns=time_ns, **changes)
    return replace(kill, limit_scope=scope, repeat=RepeatedKill(2, time_ns))


def _grown(time_ns: int, kind: str) -> EnrichedKill:
    return replace(_kill(time_ns), growth=Growth(kind))


def _no_victim(time_ns: int) -> EnrichedEvent:
    return enrich.enrich_no_victim(replace(NO_VICTIM, time_unix_ns=time_ns), time_ns, HOST)


def _panic(time_ns: int) -> EnrichedEvent:
    return enrich.enrich_panic(replace(PANIC, time_unix_ns=time_ns), time_ns, HOST)


def _missed(time_ns: int) -> EnrichedEvent:
    missed = MissedKills(
        boot_id=KILL.boot_id,
        boottime_ns=1,
        time_unix_ns=time_ns,
        count=2,
        kernel_count=9,
        reason="unknown",
    )
    return enrich.enrich_missed_kills(missed, time_ns, HOST)


def _dropped(time_ns: int) -> EnrichedEvent:
    event = replace(DROPPED, time_unix_ns=time_ns, start_unix_ns=time_ns)
    return enrich.enrich_dropped_events(event, time_ns, HOST, None)


EVENT_CASES: Final = (
    EventCase("one kill", frozenset({"OomKill"}), _kill),
    EventCase("three kills", frozenset({"OomKill", "OomKillRepeating"}), _kill, (40, 20, 0)),
    EventCase("two kills", frozenset({"OomKill"}), _kill, (20, 0)),
    EventCase("an old kill", frozenset(), _kill, (90,)),
    EventCase(
        "a kill by the host",
        frozenset({"OomKill", "OomKillHostWide"}),
        lambda time_ns: _kill(time_ns, "host"),
    ),
    EventCase(
        "a leak", frozenset({"OomKill", "OomGrowing"}), lambda time_ns: _grown(time_ns, "leak")
    ),
    EventCase("a spike", frozenset({"OomKill"}), lambda time_ns: _grown(time_ns, "spike")),
    EventCase("a skipped victim", frozenset(), lambda time_ns: _kill(time_ns, skipped=True)),
    EventCase("no victim", frozenset({"OomNoVictim"}), _no_victim),
    EventCase("a panic half an hour ago", frozenset({"OomPanic"}), _panic, (30,)),
    EventCase("missed kills", frozenset({"OomMissed"}), _missed),
    EventCase("dropped events", frozenset({"OtelOomLosing"}), _dropped),
)
