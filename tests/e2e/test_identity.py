"""Kills in every kind of place, through a real Collector, under the names of whose they were.

Each value is held against what the runtime itself says of its container, pod or unit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import workloads
from tests.e2e.workloads import Expected
from tests.testlib.agent import run_agent
from tests.testlib.containers import containerd, docker, podman
from tests.testlib.kernel import systemd
from tests.testlib.kernel.oracle import KernelLog, wait_for_report_budget
from tests.testlib.require import require
from tests.testlib.servers.collector import Collector
from tests.testlib.servers.jaeger import Jaeger
from tests.testlib.servers.victorialogs import Entry, VictoriaLogs
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

PLACES = ("podman", "docker", "pod", "unit", "slice", "alone")
ARRIVES_S = 30.0

OF_EVERY_TRIGGER = {
    *("oom.trigger.pid", "oom.trigger.tid", "oom.trigger.comm", "oom.trigger.uid"),
    *("oom.trigger.memcg.path", "oom.trigger.memcg.id"),
}
"""What is told of a trigger that is in the same place as the victim, too."""


@dataclass(frozen=True)
class Told:
    """A kill as the backends have it; whether the kernel's log ``reported`` all of it."""

    expected: Expected
    reported: bool
    entry: Entry
    span: dict[str, Any]
    process: dict[str, Any]

    @property
    def tags(self) -> dict[str, Any]:
        """The span's tags."""
        return {tag["key"]: tag["value"] for tag in self.span["tags"]}

    @property
    def resource(self) -> dict[str, Any]:
        """The tags of what Jaeger calls its process."""
        return {tag["key"]: tag["value"] for tag in self.process["tags"]}


@dataclass(frozen=True)
class Kills:
    """A kill in each place, and the pids of all that the kernel's log reports whole."""

    expected: Mapping[str, Expected]
    reported: Sequence[int]


@pytest.fixture(scope="module")
def kills(
    backends: Collector, crictl_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kills]:
    """A kill in every place, all of them seen by one agent."""
    folder = tmp_path_factory.mktemp("whose")
    with ExitStack() as stack:
        of_podman = stack.enter_context(podman.run_podman())
        of_docker = stack.enter_context(docker.run_docker())
        of_containerd = stack.enter_context(containerd.run_containerd(crictl_binary))
        of_systemd = stack.enter_context(systemd.run_systemd())
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": backends.http,
            "DOCKER_HOST": f"unix://{of_docker.socket}",
        }
        stack.enter_context(run_agent(folder, environ)).wait_until_watching()
        made: dict[str, Callable[[], Expected]] = {
            "podman": lambda: workloads.in_podman(of_podman),
            "docker": lambda: workloads.in_docker(of_docker),
            "pod": lambda: workloads.in_pod(of_containerd, stack),
            "unit": lambda: workloads.in_unit(of_systemd),
            "slice": lambda: workloads.in_slice(of_systemd),
            "alone": lambda: workloads.alone(folder, stack),
        }
        wait_for_report_budget(
            kills=len(PLACES) + 2
        )  # of two, the one that asked is killed as well
        log = stack.enter_context(KernelLog())
        expected = {name: make() for name, make in made.items()}
        yield Kills(expected, log.read_reported_pids())


@pytest.fixture(scope="module", params=PLACES)
def told(
    request: pytest.FixtureRequest, kills: Kills, victorialogs: VictoriaLogs, jaeger: Jaeger
) -> Told:
    """The kill in one of the places."""
    expected = kills.expected[request.param]
    query = f'service.name:="{expected.service}" {expected.only}'
    (entry,) = wait_until(lambda: victorialogs.query(query), query, limit=ARRIVES_S)
    trace_id = entry.fields["trace_id"]
    trace = wait_until(lambda: jaeger.trace(trace_id), "its trace in Jaeger", limit=ARRIVES_S)
    assert trace is not None
    (span,) = trace["spans"]
    reported = int(entry.fields["process.pid"]) in kills.reported
    return Told(expected, reported, entry, span, trace["processes"][span["processID"]])


def test_victorialogs_has_it_under_its_own_service(told: Told) -> None:
    """One entry under the service's name, and in it what the runtime says of the victim."""
    expected = told.expected
    wanted = {**expected.resource, **expected.victim, **expected.trigger}
    fields = {name: told.entry.fields.get(name) for name in wanted}
    assert fields == {name: _text(value) for name, value in wanted.items()}
    assert told.entry.fields["event_name"] == "oom.kill"
    assert told.entry.fields["oom.outcome"] == "killed"


def test_jaeger_has_it_under_its_own_service(told: Told) -> None:
    """A span of the service, whose resource is what the runtime says of the container."""
    expected = told.expected
    assert told.process["serviceName"] == expected.service
    resource = {name: told.resource.get(name) for name in expected.resource}
    assert resource == {name: _tag(value) for name, value in expected.resource.items()}
    assert {name: told.tags.get(name) for name in expected.victim} == dict(expected.victim)


def test_the_limit_that_was_hit_is_told(told: Told) -> None:
    """In both: whose limit it was, how much, and which line of which file has set it."""
    require(told.reported, "the kernel reports no more than ten kills in five seconds")
    limit = told.expected.limit
    assert {name: told.tags.get(name) for name in limit} == dict(limit)
    fields = {name: told.entry.fields.get(name) for name in limit}
    assert fields == {name: _text(value) for name, value in limit.items()}


def test_nobody_elses_place_is_in_its_resource(told: Told) -> None:
    """Where the victim was in no container or no pod, none is told."""
    expected = told.expected
    for kind in ("container.", "k8s."):
        if not any(name.startswith(kind) for name in expected.resource):
            names = [*told.resource, *told.entry.fields]
            assert [name for name in names if name.startswith(kind)] == []


def test_victim_and_trigger_are_told_apart(told: Told) -> None:
    """In Jaeger: who asked, and where it was if not where the victim was."""
    expected = told.expected
    assert {name: told.tags.get(name) for name in expected.trigger} == dict(expected.trigger)
    elsewhere = {n for n in told.tags if n.startswith("oom.trigger.")} - OF_EVERY_TRIGGER
    if expected.trigger:
        assert told.tags["oom.trigger.pid"] != told.tags["process.pid"]
        assert told.tags["oom.trigger.memcg.path"] != told.tags["oom.victim.memcg.path"]
        assert elsewhere <= set(expected.trigger)
    else:
        assert told.tags["oom.trigger.pid"] == told.tags["process.pid"]
        assert told.tags["oom.trigger.memcg.path"] == told.tags["oom.victim.memcg.path"]
        assert elsewhere == set()


def _text(value: object) -> str:
    """A value as VictoriaLogs keeps it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _tag(value: object) -> object:
    """A value as Jaeger keeps it."""
    return json.dumps(value) if isinstance(value, list) else value
