"""The limits of an Event of Kubernetes (pkg/apis/core/validation/events.go)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.config.limits import TelemetryLimits
from otel_oom.enrich.types import EnrichedKill
from otel_oom.model.snapshot import Container
from otel_oom.otlp.attribute_drops import AttributeDrops
from otel_oom.otlp.encode import encode_event_log
from otel_oom.otlp.event import build_event
from otel_oom.otlp.pod_event import PodKill, decode_pod_kills
from tests.testlib.samples.pod_kills import pod_kill

MAX_NOTE_BYTES = 1024
KILL = PodKill("0123-4567", 1_700_000_000_000_001_999, "uid", "shop", "web", "php", "ü" * 1000)


@pytest.mark.parametrize("more_count", [0, 12345])
def test_a_long_note_is_cut_and_keeps_the_count(more_count: int) -> None:
    note = KILL.to_event("node-1", more_count)["note"]
    assert MAX_NOTE_BYTES - 4 < len(note.encode()) <= MAX_NOTE_BYTES
    assert note.endswith("ü… 12345 more in this pod followed." if more_count else "ü…")


def test_a_series_ends_no_earlier_than_it_begins() -> None:
    """Kills of one pod need not arrive in the order of their times."""
    event = KILL.to_event("node-1", more_count=1, last_unix_ns=KILL.unix_ns - 1_000_000)
    assert event["eventTime"] == "2023-11-14T22:13:20.000001Z"
    assert event["series"] == {"count": 2, "lastObservedTime": event["eventTime"]}


_HONEST = pod_kill()
_FOREIGN = replace(_HONEST.containers, victim=Container("c" * 64, "podman", scope="user"))
_FORGED = (
    pod_kill(claimed=("k8s.pod.name",)),
    pod_kill(claimed=("k8s.namespace.name", "k8s.pod.name")),
    replace(_HONEST, containers=_FOREIGN),
)


@pytest.mark.unregistered("required, and absent")  # the user drops them
@pytest.mark.parametrize(
    ("dropped", "limits"),
    [
        ("oom.service.*", TelemetryLimits()),
        ("oom.container.*", TelemetryLimits()),
        ("oom.victim.pod.*", TelemetryLimits()),
        ("[!k]*", TelemetryLimits()),
        ("", TelemetryLimits(log_characters=10)),
        *(("", TelemetryLimits(log_attributes=count)) for count in range(0, 60, 3)),
    ],
)
@pytest.mark.parametrize("kill", _FORGED)
def test_no_drop_or_limit_makes_a_claimed_name_trusted(
    kill: EnrichedKill, dropped: str, limits: TelemetryLimits
) -> None:
    """A tenant could put an Event on the pod of another (docs/threat-model.md)."""
    event = AttributeDrops([dropped]).drop_from_event(build_event(kill))
    assert not any(each.pod for each in decode_pod_kills(encode_event_log(event, limits)))


def test_a_cut_of_texts_leaves_the_event_of_a_pod() -> None:
    log = encode_event_log(build_event(_HONEST), TelemetryLimits(log_characters=10))
    (kill,) = decode_pod_kills(log)
    assert (kill.uid, kill.pod) == (_HONEST.event.uid, "web-7d4b9")
