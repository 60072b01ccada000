"""The list of events: one line each, with what tells them apart."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.commands.console.terminal import Terminal, cells
from otel_oom.commands.history import table
from otel_oom.commands.history.entry import Entry
from otel_oom.enrich.event import enrich_missed_kills, enrich_no_victim, enrich_panic
from otel_oom.model.container import EventContainers
from otel_oom.model.events import MissedKills
from otel_oom.model.types import Memcg
from otel_oom.otlp.encode import encode_log
from tests.testlib.samples.events import (
    CONTAINER_ID,
    DECISION,
    HOST,
    KILL,
    NO_VICTIM,
    PANIC,
    sample_enriched_kill,
)
from tests.testlib.samples.history import entry, log_entry

WIDE = Terminal(400)
POD_UID = "0a1b2c3d-0000-4000-8000-000000000001"
MISSED = MissedKills(
    boot_id="b", boottime_ns=1, time_unix_ns=10**18, count=3, kernel_count=9, reason="unknown"
)


def row(one: Entry) -> list[str]:
    """The columns of an event."""
    _, line = table.lines([one], WIDE)
    return [part.strip() for part in line.split("  ") if part]


def test_a_kill_on_one_line() -> None:
    """When, which, the victim, whose, whose limit, the outcome, whether the backend has it."""
    assert row(entry(sample_enriched_kill())) == [
        *("2023-11-14T22:13:20Z", KILL.uid[:8], "java (4711)", f"container {CONTAINER_ID[:12]}"),
        *("/docker 64.0 MiB", "killed", "sent"),
    ]


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        ("/system.slice/nginx.service", "unit nginx.service"),
        ("/user.slice/user-1.slice/user@1.service/app.slice/a.scope", "unit a.scope"),
        ("/x", "service java"),
    ],
)
def test_whose_it_was_by_its_cgroup(path: str, whose: str) -> None:
    """The unit, a user's own before the manager of all; without any the service."""
    one = sample_enriched_kill(memcg=Memcg(1, path))
    assert row(entry(replace(one, containers=EventContainers())))[3] == whose


def test_a_pod_and_a_container_by_their_names() -> None:
    """As people call them, with the namespace."""
    resource = {
        "k8s.pod.uid": POD_UID,
        "k8s.pod.name": "cart-7d",
        "k8s.namespace.name": "shop",
        "k8s.container.name": "api",
        "container.id": CONTAINER_ID,
    }
    assert (
        row(entry(replace(sample_enriched_kill(), resource=resource)))[3] == "pod shop/cart-7d/api"
    )
    named = {"container.id": CONTAINER_ID, "container.name": "web"}
    assert row(entry(replace(sample_enriched_kill(), resource=named)))[3] == "container web"


@pytest.mark.parametrize(
    ("decision", "limit"),
    [
        (replace(DECISION, memcg=KILL.memcg), "own 64.0 MiB"),
        (replace(DECISION, memcg=None, memcg_usage=None, constraint="none"), "the host"),
        (replace(DECISION, memcg_usage=None), "/docker"),
        (None, "-"),
    ],
)
def test_whose_limit_it_was(decision: object, limit: str) -> None:
    """The victim's own, the host's, that of a cgroup by its path; nothing where nobody knows."""
    assert row(entry(sample_enriched_kill(decision=decision)))[4] == limit


def test_events_without_a_victim_stand_in_it_too() -> None:
    """Each with what it is."""
    outcomes = [
        row(log_entry(log))[-2]
        for log in (
            encode_log(enrich_no_victim(NO_VICTIM, 0, HOST)),
            encode_log(enrich_panic(PANIC, 0, HOST)),
            encode_log(enrich_missed_kills(MISSED, 0, HOST)),
        )
    ]
    assert outcomes == ["nobody to kill", "the host panicked", "3 missed"]
    assert row(entry(sample_enriched_kill(skipped=True), span_fate=None))[-2] == "let go before"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_and_nothing_in_it_does_harm(width: int) -> None:
    """Columns that tell an event apart stay whole; the rest is cut; nothing is obeyed."""
    name = "x\x1b]0;pwned\x07\n漢字"
    victim = replace(KILL.victim, comm=name)
    one = sample_enriched_kill(victim=victim, memcg=Memcg(1, f"/{name}" * 30))
    made = entry(replace(one, resource={"container.id": CONTAINER_ID, "container.name": name * 9}))
    head, line = table.lines([made], Terminal(width))
    assert line.isprintable()
    assert max(cells(head), cells(line)) <= width
    assert f"2023-11-14T22:13:20Z  {KILL.uid[:8]}  x\\x1b" in line
