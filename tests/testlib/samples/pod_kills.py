"""Kills in pods, as the log events that the outbox has of them."""

from __future__ import annotations

import time
from typing import Any, Final

from msgspec.structs import replace

from otel_oom.enrich.event import enrich_userspace_kill
from otel_oom.enrich.service_identity import ServiceIdentity
from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.events import UserspaceKill
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Capture, UserspaceOomDaemon
from otel_oom.otlp.encode import encode_log
from tests.testlib.samples.events import HOST, KILL, sample_enriched_kill

POD_UID: Final = "6f1c2d3e-0000-4000-8000-0000000000aa"
_RESOURCE: Final = {
    "k8s.namespace.name": "shop",
    "k8s.pod.name": "web-7d4b9",
    "k8s.pod.uid": POD_UID,
    "k8s.container.name": "php",
}


def pod_kill(number: int = 0, *, claimed: tuple[str, ...] = (), **names: str) -> EnrichedKill:
    """Return a kill of this minute, with another identity for each ``number``.

    ``names`` changes attributes of ``k8s.pod``; ``claimed`` are names that the victim claims.
    """
    changes = {f"k8s.{key.replace('_', '.')}": value for key, value in names.items()}
    kill = sample_enriched_kill(number=number, time_unix_ns=time.time_ns() + number)
    service = ServiceIdentity({}, "kubernetes", claimed)
    resource = {**kill.resource, **_RESOURCE, **changes}
    return replace(kill, resource=resource, service=service)


def daemon_kill_log(*, verified: bool) -> bytes:
    """Return the log event of a kill in the pod by earlyoom, as its message says."""
    kill = UserspaceKill(
        boot_id=KILL.boot_id,
        boottime_ns=KILL.boottime_ns,
        time_unix_ns=time.time_ns(),
        trigger=None,
        capture=Capture("journal", "systemd-journald", None, 1),
        killer=UserspaceOomDaemon("earlyoom", signal="SIGTERM"),
        victim=KILL.victim,
        memcg=KILL.memcg,
        completed=True,
        verified=verified,
        original="",
    )
    enriched = enrich_userspace_kill(kill, Snapshot(process_found=False), 0, HOST)
    return encode_log(replace(enriched, resource={**enriched.resource, **_RESOURCE}))


def pod_kill_log(number: int = 0, **changes: Any) -> bytes:  # noqa: ANN401  those of pod_kill()
    """Return the log event of a kill."""
    return encode_log(pod_kill(number, **changes))
