"""Events on the pods of victims, as the API server and kubectl have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import pairwise
from typing import Final

import pytest

from otel_oom.config.endpoint import JSON, Endpoint
from otel_oom.config.pod_events import PodEvents
from otel_oom.export.pod_events import FORBIDDEN, PodEventTransport
from otel_oom.export.result import ExportResponse, ExportResult
from tests.cluster import plan, workloads
from tests.cluster import release as release_settings
from tests.cluster.cluster import Cluster
from tests.cluster.made_kills import MadeKill
from tests.cluster.pod_events import list_events, list_rights
from tests.cluster.scenarios import FIRST, MORE_KILLS, NAMESPACE, SCENARIOS
from tests.cluster.workloads import Json
from tests.testlib.samples.pod_kills import pod_kill_log
from tests.testlib.wait import wait_until

_ARRIVES_S: Final = 120.0
_LIMITS: Final = {"container": "own limit", "pod": "limit of the pod", "class": "limit above"}
_MIRROR: Final = "kubernetes.io/config.mirror"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_kill_is_one_event_on_its_pod(
    cluster: Cluster, kills: dict[str, MadeKill], scenario: str
) -> None:
    """Also where the victim is a child, the pod is gone, or the kubelet alone knows the pod."""
    kill = kills[scenario]
    meta = kill.pod["metadata"]
    (event,) = wait_until(
        lambda: list_events(cluster, meta["name"]), f"an Event on {scenario}", limit=_ARRIVES_S
    )
    assert event["regarding"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": NAMESPACE,
        "name": meta["name"],
        # Of a static pod kubectl asks for the UID that the node has: see the next test.
        "uid": meta.get("annotations", {}).get(_MIRROR, meta["uid"]),
        "fieldPath": f"spec.containers{{{kill.scenario.container}}}",
    }
    assert (event["type"], event["reportingInstance"]) == ("Warning", "node-1")
    assert event["note"].startswith(f"tail (pid {kill.report.pid} of the node), ")
    limit = _LIMITS[kill.scenario.limited_by]
    if kill.scenario.limited_by == "container":
        size = kill.spec["resources"]["limits"]["memory"].removesuffix("Mi")
        limit = f"{limit} {size}.0 MiB"
    assert f", {limit}" in event["note"]


@pytest.mark.parametrize("scenario", ["own-limit", "child", "static"])
def test_kubectl_describes_it(cluster: Cluster, kills: dict[str, MadeKill], scenario: str) -> None:
    kill = kills[scenario]
    name = kill.pod["metadata"]["name"]
    wait_until(lambda: list_events(cluster, name), f"an Event on {scenario}", limit=_ARRIVES_S)
    lines = cluster.kubectl("-n", NAMESPACE, "describe", "pod", name).splitlines()
    (line,) = [each for each in lines if " OOMKilled " in each and "otel-oom" in each]
    assert line.split()[:2] == ["Warning", "OOMKilled"]
    assert f"spec.containers{{main}}: tail (pid {kill.report.pid} of the node), " in line
    listed = cluster.kubectl("get", "events", "-A", "--field-selector", "reason=OOMKilled")
    assert f" pod/{name} " in listed


def test_the_agent_may_create_events_and_nothing_else(
    cluster: Cluster,
    release: release_settings.Release,  # noqa: ARG001  installed before
) -> None:
    """Beyond what any service account may."""
    anybody = f"system:serviceaccount:{NAMESPACE}:default"
    rights = list_rights(cluster, release_settings.ACCOUNT) - list_rights(cluster, anybody)
    assert {" ".join(line.split()) for line in rights} == {"events.events.k8s.io [] [] [create]"}
    doctor = cluster.kubectl(
        *("-n", release_settings.NAMESPACE, "exec", f"daemonset/{release_settings.NAME}", "--"),
        *("otel-oom", "doctor"),
    )
    assert "lets the service account create Events" in " ".join(doctor.split())


@pytest.fixture(scope="module")
def transport_of(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], PodEventTransport]:
    """Return clients of the API server, each with a token of a service account."""
    folder = tmp_path_factory.mktemp("tokens")

    def make(namespace: str, account: str) -> PodEventTransport:
        token = folder / f"{namespace}-{account}"
        token.write_text(cluster.kubectl("-n", namespace, "create", "token", account))
        authority = cluster.folder.certificates / "authority.pem"
        api = Endpoint("logs", JSON, plan.API_URL, certificate=authority)
        return PodEventTransport(PodEvents(api, token, "tests"))

    return make


def _send(cluster: Cluster, transport: PodEventTransport, body: bytes) -> ExportResponse:
    with closing(transport):
        return cluster.call_in_network(lambda: transport.send(body))


@pytest.mark.usefixtures("release")
def test_how_a_real_server_responds(
    cluster: Cluster, transport_of: Callable[[str, str], PodEventTransport]
) -> None:
    """To a repetition, to a missing right, and about namespaces that are gone or end."""
    agent = (release_settings.NAMESPACE, release_settings.NAME)
    pod = pod_kill_log(pod_name="gone", namespace_name=NAMESPACE)
    for _ in range(2):
        response = _send(cluster, transport_of(*agent), pod)
        assert response.result is ExportResult.ACCEPTED, response
    assert len(list_events(cluster, "gone")) == 1
    refused = _send(cluster, transport_of(NAMESPACE, "default"), pod)
    assert refused.reason.startswith(f"HTTP 403: {FORBIDDEN}: events.events.k8s.io is forbidden")
    missing = _send(cluster, transport_of(*agent), pod_kill_log(1, namespace_name="no-such"))
    assert missing.result is ExportResult.ACCEPTED, missing
    with _ending_namespace(cluster) as ending:
        response = _send(cluster, transport_of(*agent), pod_kill_log(2, namespace_name=ending))
        assert response.result is ExportResult.ACCEPTED, response


@contextmanager
def _ending_namespace(cluster: Cluster) -> Iterator[str]:
    """Yield a namespace that is being deleted, and has an object that delays this."""
    name, held = "ending", "configmap/held"
    cluster.apply(workloads.namespace(name))
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "held", "namespace": name, "finalizers": ["example.com/held"]},
        }
    )
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    try:
        yield name
    finally:
        cluster.kubectl(
            *("-n", name, "patch", held, "--type=merge"),
            *("-p", '{"metadata":{"finalizers":null}}'),
        )


@pytest.mark.usefixtures("kills")
def test_further_kills_within_the_minute_are_one_event(cluster: Cluster) -> None:
    """Of the pod that was the first, as its processes were killed a minute ago.

    A slow machine may need more than a minute for the kills: then they are more Events.
    """

    def find_all() -> list[Json]:
        events = list_events(cluster, FIRST)
        return events if sum(map(_count_kills, events)) > MORE_KILLS else []

    events = wait_until(find_all, "the other kills", limit=_ARRIVES_S)
    assert sum(map(_count_kills, events)) == 1 + MORE_KILLS
    assert "series" not in events[0]
    created = [_seconds(each["metadata"]["creationTimestamp"]) for each in events]
    assert all(later - earlier >= 59 for earlier, later in pairwise(created))
    for event in events[1:]:
        more = f" {_count_kills(event) - 1} more in this pod followed."
        assert event["note"].endswith(more) == ("series" in event)


def _count_kills(event: Json) -> int:
    return int(event.get("series", {"count": 1})["count"])


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
