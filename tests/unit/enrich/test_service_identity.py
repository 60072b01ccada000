"""The victim's service, by OpenTelemetry's rules and in their order."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.claims import Claims, parse_claims
from otel_oom.enrich.kubernetes import Pod
from otel_oom.enrich.service_identity import ServiceHints, resolve_service
from otel_oom.linux.systemd.units import Units

POD = Pod(
    uid="0b1c2d3e-4f50-6172-8394-a5b6c7d8e9f0",
    name="checkout-7d9f8b6c5-x2k4z",
    namespace="shop",
    container="server",
    image="registry.example:5000/shop/checkout:1.4.2",
)
ANNOTATED = replace(
    POD,
    annotated_attributes={
        "service.name": "annotated",
        "service.namespace": "annotated-namespace",
        "service.instance.id": "annotated-instance",
        "service.version": "annotated-version",
        "team": "payments",
    },
)
LABELS = {
    "app.kubernetes.io/name": "checkout",
    "app.kubernetes.io/instance": "shop-checkout",
    "app.kubernetes.io/version": "2.0",
}
DEPLOYED = "k8s.deployment.name=the-deployment"
ALL = {
    "OTEL_RESOURCE_ATTRIBUTES": (
        "service.name=attribute,service.namespace=own-namespace,service.instance.id=own-instance,"
        "service.version=own-version"
    )
}


def claims(**environ: str) -> Claims:
    """Return the claims of an environment."""
    return Claims(parse_claims(environ))


@pytest.mark.parametrize(
    ("hints", "name"),
    [
        # The process's own words, wherever it runs.
        (ServiceHints(claims(OTEL_SERVICE_NAME="variable", **ALL), pod=ANNOTATED), "variable"),
        (ServiceHints(claims(**ALL), pod=ANNOTATED), "attribute"),
        (ServiceHints(claims(**ALL), units=Units("nginx.service")), "attribute"),
        (ServiceHints(claims(OTEL_SERVICE_NAME=" "), executable="/usr/bin/java"), "java"),
        (ServiceHints(claims(OTEL_SERVICE_NAME="unknown_service:java"), container="shop"), "shop"),
        # In Kubernetes.
        (ServiceHints(pod=ANNOTATED, executable="/usr/bin/java"), "annotated"),
        (ServiceHints(pod=POD, container="k8s_server", units=Units("x.service")), POD.name),
        (ServiceHints(pod=ANNOTATED, labels=LABELS), "annotated"),
        (ServiceHints(pod=POD, labels=LABELS), "shop-checkout"),
        (ServiceHints(pod=POD, labels={"app.kubernetes.io/name": "checkout"}), "checkout"),
        (
            ServiceHints(claims(OTEL_RESOURCE_ATTRIBUTES=DEPLOYED), pod=POD, labels=LABELS),
            "shop-checkout",
        ),
        (ServiceHints(pod=POD, labels={"app": "x"}), POD.name),
        (ServiceHints(container="shop", labels=LABELS), "shop"),
        (ServiceHints(pod=replace(POD, name=None)), "server"),
        (ServiceHints(pod=Pod("uid"), executable="/usr/bin/java"), "unknown_service:java"),
        (ServiceHints(pod=Pod("uid")), "unknown_service"),
        # Elsewhere.
        (ServiceHints(units=Units("nginx.service", "system.slice"), container="c"), "nginx"),
        (ServiceHints(units=Units("user@1000.service", None, "web.service")), "web"),
        (ServiceHints(units=Units("user@1000.service"), executable="/usr/bin/java"), "java"),
        (ServiceHints(units=Units("session-3.scope"), executable="/usr/bin/java"), "java"),
        (ServiceHints(container="shop", executable="/usr/bin/java"), "shop"),
        (ServiceHints(executable="/usr/bin/java", comm="main"), "java"),
        (ServiceHints(comm="main"), "main"),
        (ServiceHints(), "unknown_service"),
    ],
)
def test_service_name_follows_the_order_of_the_conventions(hints: ServiceHints, name: str) -> None:
    assert resolve_service(hints).attributes["service.name"] == name


WORKLOADS = ("deployment", "replicaset", "statefulset", "daemonset", "cronjob", "job")


@pytest.mark.parametrize("first", range(len(WORKLOADS)))
def test_owner_of_a_pod_names_the_service(first: int) -> None:
    variable = ",".join(f"k8s.{kind}.name=the-{kind}" for kind in reversed(WORKLOADS[first:]))
    service = resolve_service(ServiceHints(claims(OTEL_RESOURCE_ATTRIBUTES=variable), pod=POD))
    assert service.attributes["service.name"] == f"the-{WORKLOADS[first]}"
    assert (service.source, "service.name" in service.claimed) == ("environ", True)


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (
            ServiceHints(claims(**ALL), pod=ANNOTATED),
            ("own-namespace", "own-instance", "own-version"),
        ),
        (
            ServiceHints(pod=ANNOTATED),
            ("annotated-namespace", "annotated-instance", "annotated-version"),
        ),
        (ServiceHints(pod=POD), ("shop", "shop.checkout-7d9f8b6c5-x2k4z.server", "1.4.2")),
        (
            ServiceHints(pod=POD, labels=LABELS),
            ("shop", "shop.checkout-7d9f8b6c5-x2k4z.server", "2.0"),
        ),
        (ServiceHints(pod=replace(POD, container=None, image=None)), ("shop", None, None)),
        (ServiceHints(executable="/usr/bin/java"), (None, None, None)),
    ],
)
def test_namespace_instance_and_version(
    hints: ServiceHints, expected: tuple[str | None, str | None, str | None]
) -> None:
    service = resolve_service(hints).attributes
    names = ("service.namespace", "service.instance.id", "service.version")
    assert tuple(service.get(name) for name in names) == expected


def test_other_attributes_of_the_environment_are_ignored() -> None:
    variable = "api.key=hunter2,host.name=evil,k8s.pod.name=evil,deployment.environment.name=prod"
    service = resolve_service(ServiceHints(claims(OTEL_RESOURCE_ATTRIBUTES=variable), comm="main"))
    assert service.attributes == {"service.name": "main", "deployment.environment.name": "prod"}
    assert (service.source, service.claimed) == ("comm", ("deployment.environment.name",))


def test_all_resource_annotations_are_attributes() -> None:
    assert resolve_service(ServiceHints(pod=ANNOTATED)).attributes["team"] == "payments"


@pytest.mark.parametrize(
    ("hints", "source", "claimed"),
    [
        (ServiceHints(claims(OTEL_SERVICE_NAME="a"), pod=ANNOTATED), "environ", ["service.name"]),
        (ServiceHints(pod=ANNOTATED), "kubernetes", []),
        (ServiceHints(pod=POD, labels=LABELS), "kubernetes", []),
        (ServiceHints(pod=Pod("uid"), executable="/usr/bin/java"), "executable", []),
        (ServiceHints(units=Units("nginx.service"), container="c"), "systemd", []),
        (ServiceHints(container="shop", executable="/usr/bin/java"), "container", []),
        (ServiceHints(executable="/usr/bin/java", comm="main"), "executable", []),
        (ServiceHints(comm="main"), "comm", []),
        (ServiceHints(), "none", []),
    ],
)
def test_source_and_claims_are_marked(hints: ServiceHints, source: str, claimed: list[str]) -> None:
    service = resolve_service(hints)
    assert (service.source, [*service.claimed]) == (source, claimed)


def test_what_derives_from_a_claim_is_claimed() -> None:
    names = "k8s.namespace.name=kube-system,k8s.pod.name=evil"
    service = resolve_service(
        ServiceHints(claims(OTEL_RESOURCE_ATTRIBUTES=names), pod=Pod("uid", container="server"))
    )
    assert service.attributes == {
        "service.name": "evil",
        "service.namespace": "kube-system",
        "service.instance.id": "kube-system.evil.server",
        "k8s.namespace.name": "kube-system",
        "k8s.pod.name": "evil",
    }
    assert service.source == "environ"
    assert service.claimed == tuple(sorted(service.attributes))


def test_claim_never_replaces_what_the_platform_knows() -> None:
    """Neither the names of the pod nor the workload that its annotations name."""
    names = ",".join(f"k8s.{kind}.name=evil" for kind in ("namespace", "pod", "deployment"))
    annotated = replace(POD, annotated_attributes={"k8s.deployment.name": "checkout"})
    service = resolve_service(ServiceHints(claims(OTEL_RESOURCE_ATTRIBUTES=names), pod=annotated))
    assert "evil" not in service.attributes.values()
    assert service.attributes["service.name"] == "checkout"
    assert (service.source, service.claimed) == ("kubernetes", ())
