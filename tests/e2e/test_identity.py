"""Kills in containers, pods, units and outside of them, through a real Collector to real backends.

Each value is compared with what the runtime itself reports of its container, pod or unit.
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

PLACES = ("podman", "docker", "pod", "unit", "slice", "outside")
ARRIVES_S = 30.0

TRIGGER_ATTRIBUTES = {
    *("oom.trigger.pid", "oom.trigger.tid", "oom.trigger.comm", "oom.trigger.uid"),
    *("oom.trigger.memcg.path", "oom.trigger.memcg.id"),
}
"""Attributes of every trigger, also of one in the victim's own container."""


@dataclass(frozen=True)
class DeliveredKill:
    """A kill as the backends have it; ``reported`` if the kernel printed its whole report."""

    expected: Expected
    reported: bool
    entry: Entry
    span: dict[str, Any]
    process: dict[str, Any]

    @property
    def tags(self) -> dict[str, Any]:
        """Return the span's tags."""
        return {tag["key"]: tag["value"] for tag in self.span["tags"]}

    @property
    def resource(self) -> dict[str, Any]:
        """Return the tags of what Jaeger calls its process."""
        return {tag["key"]: tag["value"] for tag in self.process["tags"]}


@dataclass(frozen=True)
class Kills:
    """A kill in each place, and the pids of all whole reports of the kernel log."""

    expected: Mapping[str, Expected]
    reported: Sequence[int]


@pytest.fixture(scope="module")
def kills(
    backends: Collector, crictl_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kills]:
    """Make a kill in every place, all captured by one agent."""
    folder = tmp_path_factory.mktemp("identity")
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
            "podman": lambda: workloads.kill_in_podman(of_podman),
            "docker": lambda: workloads.kill_in_docker(of_docker),
            "pod": lambda: workloads.kill_in_pod(of_containerd, stack),
            "unit": lambda: workloads.kill_in_unit(of_systemd),
            "slice": lambda: workloads.kill_in_slice(of_systemd),
            "outside": lambda: workloads.kill_outside(folder, stack),
        }
        wait_for_report_budget(kills=len(PLACES) + 2)  # of two pairs, the trigger is killed as well
        log = stack.enter_context(KernelLog())
        expected = {name: make() for name, make in made.items()}
        yield Kills(expected, log.read_reported_pids())


@pytest.fixture(scope="module", params=PLACES)
def delivered(
    request: pytest.FixtureRequest, kills: Kills, victorialogs: VictoriaLogs, jaeger: Jaeger
) -> DeliveredKill:
    """Return the kill in one of the places."""
    expected = kills.expected[request.param]
    query = f'service.name:="{expected.service}" event_name:="oom.kill" {expected.only}'
    (entry,) = wait_until(lambda: victorialogs.query(query), query, limit=ARRIVES_S)
    trace_id = entry.fields["trace_id"]
    trace = wait_until(lambda: jaeger.trace(trace_id), "its trace in Jaeger", limit=ARRIVES_S)
    assert trace is not None
    (span,) = trace["spans"]
    reported = int(entry.fields["process.pid"]) in kills.reported
    return DeliveredKill(expected, reported, entry, span, trace["processes"][span["processID"]])


def test_victorialogs_has_the_kill_under_its_service(delivered: DeliveredKill) -> None:
    """With the runtime's own values of the victim."""
    expected = delivered.expected
    wanted = {**expected.resource, **expected.victim, **expected.trigger}
    fields = {name: delivered.entry.fields.get(name) for name in wanted}
    assert fields == {name: _text(value) for name, value in wanted.items()}
    assert delivered.entry.fields["event_name"] == "oom.kill"
    assert delivered.entry.fields["oom.outcome"] == "killed"


def test_jaeger_has_the_kill_under_its_service(delivered: DeliveredKill) -> None:
    """With the runtime's own values of the container as resource."""
    expected = delivered.expected
    assert delivered.process["serviceName"] == expected.service
    resource = {name: delivered.resource.get(name) for name in expected.resource}
    assert resource == {name: _tag(value) for name, value in expected.resource.items()}
    assert {name: delivered.tags.get(name) for name in expected.victim} == dict(expected.victim)


def test_both_backends_have_the_limit_that_was_hit(delivered: DeliveredKill) -> None:
    """Its scope, its size, and the file and line that set it."""
    require(delivered.reported, "the kernel reports no more than ten kills in five seconds")
    limit = delivered.expected.limit
    assert {name: delivered.tags.get(name) for name in limit} == dict(limit)
    fields = {name: delivered.entry.fields.get(name) for name in limit}
    assert fields == {name: _text(value) for name, value in limit.items()}


def test_the_advice_has_the_setting_of_the_limit(delivered: DeliveredKill) -> None:
    """As the owner of the container, pod or unit has set it."""
    require(delivered.reported, "the kernel reports no more than ten kills in five seconds")
    assert f"raise {delivered.expected.setting}" in delivered.tags["oom.advice"]


def test_no_container_or_pod_is_in_the_resource_of_others(delivered: DeliveredKill) -> None:
    """Where the victim was in no container or no pod, none is delivered."""
    expected = delivered.expected
    for kind in ("container.", "k8s."):
        if not any(name.startswith(kind) for name in expected.resource):
            names = [*delivered.resource, *delivered.entry.fields]
            assert [name for name in names if name.startswith(kind)] == []


def test_a_trigger_elsewhere_has_its_own_location(delivered: DeliveredKill) -> None:
    """In Jaeger: its cgroup, and its container or unit where they are not the victim's."""
    expected = delivered.expected
    assert {name: delivered.tags.get(name) for name in expected.trigger} == dict(expected.trigger)
    location = {n for n in delivered.tags if n.startswith("oom.trigger.")} - TRIGGER_ATTRIBUTES
    if expected.trigger:
        assert delivered.tags["oom.trigger.pid"] != delivered.tags["process.pid"]
        assert delivered.tags["oom.trigger.memcg.path"] != delivered.tags["oom.victim.memcg.path"]
        assert location <= set(expected.trigger)
    else:
        assert delivered.tags["oom.trigger.pid"] == delivered.tags["process.pid"]
        assert delivered.tags["oom.trigger.memcg.path"] == delivered.tags["oom.victim.memcg.path"]
        assert location == set()


def _text(value: object) -> str:
    """Return a value as VictoriaLogs stores it."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _tag(value: object) -> object:
    """Return a value as Jaeger stores it."""
    return json.dumps(value) if isinstance(value, list) else value
