"""The list of events, one on a line."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from rich.cells import cell_len

from otel_oom.commands.console.elements import render_page
from otel_oom.commands.console.output import new_console, render
from otel_oom.commands.history.entry import Entry
from otel_oom.commands.history.page import describe_event
from otel_oom.commands.history.table import render_events
from otel_oom.enrich.event import (
    enrich_dropped_events,
    enrich_kill,
    enrich_missed_kills,
    enrich_no_victim,
    enrich_panic,
)
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.loss import MissedKills
from otel_oom.model.snapshot import EventContainers
from otel_oom.model.types import Memcg
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp.encode import encode_log
from otel_oom.store.types import RepeatedKill
from tests.testlib.samples.events import (
    CONTAINER_ID,
    DECISION,
    DROPPED,
    HOST,
    KILL,
    NO_VICTIM,
    PANIC,
    SNAPSHOT,
    sample_enriched_kill,
)
from tests.testlib.samples.history import entry, log_entry

POD_UID = "0a1b2c3d-0000-4000-8000-000000000001"
MISSED = MissedKills(
    boot_id="b", boottime_ns=1, time_unix_ns=10**18, count=3, kernel_count=9, reason="unknown"
)


def listed(one: Entry, width: int = 400) -> list[str]:
    return render([render_events([one])], new_console(width)).splitlines()


def row(one: Entry) -> list[str]:
    _, line = listed(one)
    return [part.strip() for part in line.split("  ") if part]


@pytest.mark.parametrize(
    ("count", "outcome"),
    [(1, "killed"), (2, "killed, 2nd time"), (11, "killed, 11th time"), (23, "killed, 23rd time")],
)
def test_a_repeated_kill(count: int, outcome: str) -> None:
    """In the list, and on its page with the time of the first."""
    repeat = RepeatedKill(count, KILL.time_unix_ns - 60 * NS_PER_S)
    repeated = entry(replace(sample_enriched_kill(), repeat=repeat))
    assert row(repeated)[5] == outcome
    page = render(render_page(describe_event(repeated, [])), new_console(200))
    number = outcome.removeprefix("killed, ").removesuffix(" time")
    sentence = f"the {number} kill of this program since 2023-11-14T22:12:20.000Z"
    assert (sentence in page) == (count > 1)


def test_a_kill_on_one_line() -> None:
    assert row(entry(sample_enriched_kill())) == [
        *("2023-11-14T22:13:20Z", KILL.uid[:8], "java (4711)", f"container {CONTAINER_ID[:12]}"),
        *("/docker 64.0 MiB", "killed", "delivered"),
    ]


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/system.slice/nginx.service", "unit nginx.service"),
        ("/user.slice/user-1.slice/user@1.service/app.slice/a.scope", "unit a.scope"),
        ("/x", "service java"),
    ],
)
def test_the_owner_is_read_from_the_cgroup(path: str, owner: str) -> None:
    one = sample_enriched_kill(memcg=Memcg(1, path))
    assert row(entry(replace(one, containers=EventContainers())))[3] == owner


def test_what_the_victim_claims_is_marked() -> None:
    """On the page too."""
    names = "k8s.namespace.name=kube-system,k8s.pod.name=dns"
    environ = {"OTEL_SERVICE_NAME": "forged", "OTEL_RESOURCE_ATTRIBUTES": names}
    snapshot = replace(SNAPSHOT, cgroup=None, environ=environ)
    owners = ("service forged (claimed)", "pod kube-system/dns (claimed)")
    pod = "/kubepods/pod0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0"
    for path, owner in zip(("/x", pod), owners, strict=True):
        kill = replace(KILL, memcg=Memcg(1, path))
        one = entry(enrich_kill(kill, snapshot, VictimOutcome(), 0, HOST))
        assert row(one)[3] == owner
        page = render(render_page(describe_event(one, [one])), new_console(200))
        assert owner.partition(" ")[2] in page


def test_pods_and_containers_have_names() -> None:
    resource = {
        "service.name": "cart",
        "k8s.pod.uid": POD_UID,
        "k8s.pod.name": "cart-7d",
        "k8s.namespace.name": "shop",
        "k8s.container.name": "api",
        "container.id": CONTAINER_ID,
    }
    assert (
        row(entry(replace(sample_enriched_kill(), resource=resource)))[3] == "pod shop/cart-7d/api"
    )
    named = {"service.name": "shop", "container.id": CONTAINER_ID, "container.name": "web"}
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
def test_the_limit(decision: object, limit: str) -> None:
    assert row(entry(sample_enriched_kill(decision=decision)))[4] == limit


def test_events_without_a_victim() -> None:
    outcomes = [
        row(log_entry(log))[-2]
        for log in (
            encode_log(enrich_no_victim(NO_VICTIM, 0, HOST)),
            encode_log(enrich_panic(PANIC, 0, HOST)),
            encode_log(enrich_missed_kills(MISSED, 0, HOST)),
            encode_log(enrich_dropped_events(DROPPED, 0, HOST, None)),
        )
    ]
    assert outcomes == ["no victim", "panic", "3 missed", "31 dropped"]
    assert row(entry(sample_enriched_kill(skipped=True), span_status=None))[-2] == "skipped"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_and_is_escaped(width: int) -> None:
    name = "x\x1b]0;pwned\x07\n漢字"
    victim = replace(KILL.victim, comm=name)
    one = sample_enriched_kill(victim=victim, memcg=Memcg(1, f"/{name}" * 30))
    names = {"service.name": name, "container.name": name * 9}
    made = entry(replace(one, resource={"container.id": CONTAINER_ID, **names}))
    head, line = listed(made, width)
    assert line.isprintable()
    assert max(cell_len(head), cell_len(line)) <= width
    assert f"2023-11-14T22:13:20Z  {KILL.uid[:8]}  x\\x1b" in line


@pytest.mark.parametrize(
    ("holder", "owner"),
    [
        (DROPPED.holder, f"container {CONTAINER_ID[:12]}"),
        ("/user.slice/user-1000.slice", "/user.slice/user-1000.slice"),
        ("", "-"),
    ],
)
def test_the_owner_of_drops(holder: str, owner: str) -> None:
    enriched = enrich_dropped_events(replace(DROPPED, holder=holder), 0, HOST, None)
    assert row(log_entry(encode_log(enriched)))[3] == owner
