"""The report of a host's kills: counts, hours, repeats, and its forms."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.commands.console.elements import render_page
from otel_oom.commands.console.output import new_console, render
from otel_oom.commands.history.entry import Entry
from otel_oom.commands.history.event_row import event_cells
from otel_oom.commands.history.report.page import describe_report
from otel_oom.commands.history.report.repeats import count_in_an_hour, repeat_key
from otel_oom.commands.history.report.run import encode_summary, stored_since
from otel_oom.commands.history.report.summary import Summary
from otel_oom.enrich.event import enrich_kill, enrich_missed_kills, enrich_no_victim
from otel_oom.enrich.types import VictimOutcome
from otel_oom.model.loss import MissedKills
from otel_oom.model.snapshot import Snapshot
from otel_oom.model.types import Memcg
from otel_oom.model.units import NS_PER_S
from otel_oom.otlp.encode import encode_log
from otel_oom.store import HistoryRow
from tests.testlib.samples.events import (
    CONTAINER_ID,
    DECISION,
    HOST,
    KILL,
    NO_VICTIM,
    sample_enriched_kill,
)
from tests.testlib.samples.history import entry, log_entry

HOUR_NS = 3600 * NS_PER_S
START_NS = 1_700_006_400 * NS_PER_S
"""2023-11-15T00:00:00Z."""


HISTORY_ROW = HistoryRow(
    id=1,
    uid="uid",
    kind="kill",
    event="{}",
    snapshot="{}",
    exit=None,
    reaper_steps="[]",
    stored_unix_ns=START_NS,
    undecodable_reason=None,
    log=None,
    span=None,
    log_status=None,
    span_status=None,
)


def kill(hour: float, resource: Mapping[str, str], **changes: Any) -> Entry:  # noqa: ANN401  fields of a kill
    after_ns = int(hour * HOUR_NS)
    times = {"time_unix_ns": START_NS + after_ns, "boottime_ns": NS_PER_S + after_ns}
    enriched = sample_enriched_kill(**{**times, **changes})
    return entry(
        replace(enriched, resource={"host.name": "node-1", "service.name": "x", **resource})
    )


def container(name: str, number: int = 0) -> Mapping[str, str]:
    return {
        "service.name": f"svc-{name}",
        "container.id": f"{number:064x}",
        "container.name": name,
    }


def summarize(*entries: Entry, days: int = 2) -> Summary:
    summary = Summary(START_NS, START_NS + days * 24 * HOUR_NS - 1)
    for each in entries:
        summary.add(each.event)
    return summary


def show(summary: Summary, *entries: Entry) -> str:
    page = describe_report(summary, [event_cells(each) for each in entries])
    return render(render_page(page), new_console(100))


ENTRIES = (
    kill(0.5, container("cart", 1)),
    kill(1.2, container("cart", 2)),
    kill(1.4, container("cart", 3)),
    kill(30, container("web"), decision=replace(DECISION, memcg=None, memcg_usage=None)),
)


def test_kills_are_counted_by_service_limit_hour_and_outcome() -> None:
    missed = MissedKills(
        boot_id="b", boottime_ns=1, time_unix_ns=1, count=3, kernel_count=9, reason="unknown"
    )
    report = encode_summary(
        summarize(
            *ENTRIES,
            log_entry(encode_log(enrich_no_victim(NO_VICTIM, 0, HOST))),
            log_entry(encode_log(enrich_missed_kills(missed, 0, HOST))),
        )
    )
    assert report["kills"] == 4
    assert report["outcomes"] == {"killed": 4}
    assert report["other_events"] == {"oom.no_victim": 1, "oom.missed": 3}
    assert report["hours"] == {
        "2023-11-15T00:00:00Z": 1,
        "2023-11-15T01:00:00Z": 2,
        "2023-11-16T06:00:00Z": 1,
    }
    assert {each["service"]: each["kills"] for each in report["services"]} == {
        "svc-cart": 3,
        "svc-web": 1,
    }
    limits = {(each["owner"], each["limit_bytes"]): each["kills"] for each in report["limits"]}
    assert limits == {("/docker", 64 << 20): 3, ("-", None): 1}
    (repeat,) = report["repeats"]
    assert (repeat["owner"], repeat["victim"]) == ("container cart", "java")
    assert (repeat["kills"], repeat["most_in_an_hour"]) == (3, 3)
    assert (repeat["first"], repeat["last"]) == ("2023-11-15T00:30:00Z", "2023-11-15T01:24:00Z")


def test_a_group_that_is_killed_at_once_is_one_repeat() -> None:
    incident = ENTRIES[0].event.uid
    group = [kill(0.5 + n / 1000, container("cart"), incident=incident) for n in range(1, 4)]
    assert encode_summary(summarize(ENTRIES[0], *group))["repeats"] == []
    (repeat,) = encode_summary(summarize(*ENTRIES, *group))["repeats"]
    assert repeat["kills"] == 3


def test_what_the_kernel_skipped_is_no_kill() -> None:
    """The chosen process ended before it could be killed."""
    skipped = log_entry(encode_log(sample_enriched_kill(skipped=True, time_unix_ns=START_NS)))
    report = encode_summary(summarize(skipped))
    assert (report["kills"], report["services"]) == (0, [])
    assert report["other_events"] == {"oom.kill (skipped)": 1}


def test_rows_of_a_wrong_clock_hide_no_others() -> None:
    """A host that boots without a clock stores some as of 1970."""
    rows = [HISTORY_ROW, *[replace(HISTORY_ROW, stored_unix_ns=0)] * 9, HISTORY_ROW]
    assert len([*stored_since(rows, HISTORY_ROW.stored_unix_ns)]) == 2
    old = itertools.repeat(replace(HISTORY_ROW, stored_unix_ns=0))
    assert [*stored_since(old, 1)] == []


@pytest.mark.parametrize(
    ("paths", "same"),
    [
        (("user-1.slice/user@1.service/app.slice/x.service",) * 2, True),
        (
            (
                "user-1.slice/user@1.service/app.slice/x.service",
                "user-2.slice/user@2.service/app.slice/x.service",
            ),
            False,
        ),
        (("user-1.slice/session-1.scope", "user-1.slice/session-7.scope"), True),
    ],
)
def test_units_are_those_of_a_user(paths: tuple[str, str], *, same: bool) -> None:
    keys = {
        repeat_key(
            entry(
                enrich_kill(
                    replace(KILL, memcg=Memcg(id=1, path=f"/user.slice/{path}")),
                    Snapshot(process_found=False),
                    VictimOutcome(),
                    KILL.time_unix_ns,
                    HOST,
                )
            ).event
        )
        for path in paths
    }
    assert None not in keys
    assert (len(keys) == 1) is same


def test_the_page_on_a_terminal() -> None:
    text = show(summarize(*ENTRIES), *ENTRIES)
    assert "OOM report, 2023-11-15T00:00:00Z to 2023-11-16T23:59:59Z" in text
    assert "4 OOM kills of 2 services; 1 of the victims died more than once." in text
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert rows["11-15"][1:4] == ["1", "2", "·"]
    assert rows["11-16"][7] == "1"
    assert rows["svc-cart"][:2] == ["svc-cart", "3"]
    assert "Repeats" in text
    assert max(map(len, text.splitlines())) <= 100


def test_a_time_without_kills() -> None:
    text = show(summarize())
    assert "No OOM kills." in text
    assert "By service" not in text


def test_only_the_largest_groups_have_rows() -> None:
    entries = [kill(n / 100, container(f"c{n}")) for n in range(50)]
    assert "30 more." in show(summarize(*entries))


def test_a_long_time_shows_days_with_kills_only() -> None:
    entries = [kill(24 * day, container("x")) for day in (0, 40, 80)]
    text = show(summarize(*entries, days=90))
    days = re.findall(r"(?m)^  (\d\d-\d\d) ", text)
    assert days == ["11-15", "12-25", "02-03"]


@pytest.mark.parametrize(
    ("pods", "same"),
    [
        (("cart-7d4b9c6f5d-x2x4z", "cart-7d4b9c6f5d-qqw8r"), True),
        (("cart-7d4b9c6f5d-x2x4z", "cart-5c8d7f9b6c-x2x4z"), True),
        (("agent-x2x4z", "agent-zb9pk"), True),
        (("db-0", "db-0"), True),
        (("db-0", "db-1"), True),
        (("cart-x2x4z", "shop-x2x4z"), False),
    ],
)
def test_the_pods_of_one_owner_are_one(pods: tuple[str, str], *, same: bool) -> None:
    keys = {
        repeat_key(kill(0, {"k8s.namespace.name": "shop", "k8s.pod.name": pod}).event)
        for pod in pods
    }
    assert (len(keys) == 1) is same


def test_another_thread_name_is_no_repeat() -> None:
    one = kill(0, container("cart")).event
    other = kill(
        0,
        container("cart"),
        victim=replace(sample_enriched_kill().event.victim, comm="sh", executable="/bin/sh"),
    ).event
    assert repeat_key(one) != repeat_key(other)
    assert CONTAINER_ID not in str(repeat_key(one))


@pytest.mark.parametrize(
    ("minutes", "count"),
    [([], 0), ([0], 1), ([0, 60], 2), ([0, 61], 1), ([0, 50, 70, 100, 110], 4)],
)
def test_the_largest_number_in_an_hour(minutes: list[int], count: int) -> None:
    assert count_in_an_hour([minute * 60 * NS_PER_S for minute in minutes]) == count
