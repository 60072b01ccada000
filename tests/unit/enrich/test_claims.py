"""What a victim claims for itself: bounded, whatever its owner does."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.claims import (
    MAX_CLAIMANTS,
    MAX_VALUES_PER_DAY,
    ClaimBudget,
    parse_resource_attributes,
)
from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.types import EnrichedKill, VictimOutcome
from otel_oom.linux.cgroup_holder import find_holder
from otel_oom.model.types import Memcg
from otel_oom.otlp.attributes import kill_attributes
from tests.testlib.samples.events import CONTAINER_ID, HOST, KILL, SNAPSHOT

POD = "/kubepods.slice/kubepods-pod0b1c2d3e_4f50_6172_8394_a5b6c7d8e9f0.slice"
CONTAINER = f"/system.slice/docker-{CONTAINER_ID}.scope"
USER = "/user.slice/user-1000.slice"
DAY_S = 86400.0


def enrich_claim(name: str, path: str, budget: ClaimBudget | None) -> EnrichedKill:
    """Return the kill of a process of a cgroup with this OTEL_SERVICE_NAME."""
    return enrich_kill(
        replace(KILL, memcg=Memcg(42, path)),
        replace(SNAPSHOT, cgroup=None, environ={"OTEL_SERVICE_NAME": name}),
        VictimOutcome(),
        KILL.time_unix_ns,
        replace(HOST, claims=budget),
    )


@pytest.mark.parametrize(
    "path",
    [
        CONTAINER,
        f"{CONTAINER}/sub{{n}}",
        f"{POD}/cri-containerd-{CONTAINER_ID}.scope",
        f"{POD}/cri-containerd-{{n:064x}}.scope",
        f"{USER}/user@1000.service/app.slice/a{{n}}.service",
        f"{USER}/user@1000.service/user.slice/docker-{{n:064x}}.scope",
        "/system.slice/delegated.service/docker-{n:064x}.scope",
        "/custom/{n}/a",
    ],
)
def test_a_tenant_can_not_multiply_its_claims(path: str) -> None:
    """A new name and a new cgroup, or even container, for each death."""
    budget = ClaimBudget()
    kills = [
        enrich_claim(f"forged-{number}", path.format(n=number), budget)
        for number in range(MAX_VALUES_PER_DAY + 50)
    ]
    names = {str(kill.resource["service.name"]) for kill in kills}
    assert len([name for name in names if name.startswith("forged-")]) == MAX_VALUES_PER_DAY
    last = kill_attributes(kills[-1])
    assert last["oom.service.claims_dropped"] == 1
    assert last["oom.service.source"] != "environ"
    assert "oom.service.claimed" not in last
    # The names so far remain, and another tenant has its own bound.
    again = kill_attributes(enrich_claim("forged-0", path.format(n=0), budget))
    assert (again["oom.service.source"], again["oom.service.claimed"]) == (
        "environ",
        ("service.name",),
    )
    other = enrich_claim("checkout", "/system.slice/checkout.service", budget)
    assert other.resource["service.name"] == "checkout"


def test_bound_is_for_a_day() -> None:
    now_s = 0.0
    budget = ClaimBudget(lambda: now_s)
    for number in range(MAX_VALUES_PER_DAY):
        budget.admit(USER, {"OTEL_SERVICE_NAME": f"{number}"})
    assert budget.admit(USER, {"OTEL_SERVICE_NAME": "a"}).dropped_count == 1
    now_s = DAY_S
    assert budget.admit(USER, {"OTEL_SERVICE_NAME": "a"}).attributes == {"service.name": "a"}


def test_memory_is_bounded() -> None:
    """Of too many claimants, the one with the oldest claim is dropped, and its bound with it."""
    budget = ClaimBudget()
    for number in range(MAX_VALUES_PER_DAY):
        budget.admit(USER, {"OTEL_SERVICE_NAME": f"{number}"})
    for number in range(MAX_CLAIMANTS - 1):
        budget.admit(f"/system.slice/a{number}.service", {"OTEL_SERVICE_NAME": "a"})
    assert budget.admit(USER, {"OTEL_SERVICE_NAME": "a"}).dropped_count == 1
    for number in range(MAX_CLAIMANTS):
        budget.admit(f"/system.slice/a{number}.service", {"OTEL_SERVICE_NAME": "a"})
    assert budget.admit(USER, {"OTEL_SERVICE_NAME": "a"}).dropped_count == 0


def test_claims_can_be_switched_off() -> None:
    kill = enrich_claim("forged", CONTAINER, None)
    assert kill.resource["service.name"] == "java"
    assert kill_attributes(kill)["oom.service.source"] == "executable"


@pytest.mark.parametrize(
    ("path", "claimant"),
    [
        (f"{POD}/cri-containerd-{CONTAINER_ID}.scope/x", POD),
        (
            f"/kubepods/burstable/pod0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0/{CONTAINER_ID}",
            "/kubepods/burstable/pod0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
        ),
        (f"{CONTAINER}{POD}", CONTAINER),
        (f"/docker/{CONTAINER_ID}/a", f"/docker/{CONTAINER_ID}"),
        ("/a.slice/a-b.slice/x.service/y", "/a.slice/a-b.slice/x.service"),
        ("/a/b/c", "/a"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_claimant_is_the_outermost_owner(path: str, claimant: str) -> None:
    assert find_holder(path) == claimant


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1, b = 2 ", {"a": "1", "b": "2"}),
        ("a=x%2Cy%20z,b=1=2", {"a": "x,y z", "b": "1=2"}),
        ("a,=1,,b=", {"b": ""}),
        ("a=%ff", {"a": "\N{REPLACEMENT CHARACTER}"}),
        ("a=%1b[31mred%0a", {"a": "[31mred"}),
        ("a=" + "x" * 999, {"a": "x" * 256}),
    ],
)
def test_resource_attributes_are_parsed_as_by_the_sdks(text: str, expected: dict[str, str]) -> None:
    assert parse_resource_attributes(text) == expected
