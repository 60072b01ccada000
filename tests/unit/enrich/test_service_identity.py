"""The victim's service, by OpenTelemetry's rules and in their order."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from otel_oom.enrich.kubernetes import Pod
from otel_oom.enrich.service_identity import (
    ServiceHints,
    parse_resource_attributes,
    resolve_service,
)
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


@pytest.mark.parametrize(
    ("hints", "name"),
    [
        # The process's own words, wherever it runs.
        (ServiceHints({"OTEL_SERVICE_NAME": "variable", **ALL}, pod=ANNOTATED), "variable"),
        (ServiceHints(ALL, pod=ANNOTATED), "attribute"),
        (ServiceHints(ALL, units=Units("nginx.service")), "attribute"),
        (ServiceHints({"OTEL_SERVICE_NAME": " "}, executable="/usr/bin/java"), "java"),
        (ServiceHints({"OTEL_SERVICE_NAME": "unknown_service:java"}, container="shop"), "shop"),
        # In Kubernetes.
        (ServiceHints(pod=ANNOTATED, executable="/usr/bin/java"), "annotated"),
        (ServiceHints(pod=POD, container="k8s_server", units=Units("x.service")), POD.name),
        (ServiceHints(pod=ANNOTATED, labels=LABELS), "annotated"),
        (ServiceHints(pod=POD, labels=LABELS), "shop-checkout"),
        (ServiceHints(pod=POD, labels={"app.kubernetes.io/name": "checkout"}), "checkout"),
        (
            ServiceHints({"OTEL_RESOURCE_ATTRIBUTES": DEPLOYED}, pod=POD, labels=LABELS),
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
    assert resolve_service(hints)["service.name"] == name


WORKLOADS = ("deployment", "replicaset", "statefulset", "daemonset", "cronjob", "job")


@pytest.mark.parametrize("first", range(len(WORKLOADS)))
def test_owner_of_a_pod_names_the_service(first: int) -> None:
    variable = ",".join(f"k8s.{kind}.name=the-{kind}" for kind in reversed(WORKLOADS[first:]))
    service = resolve_service(ServiceHints({"OTEL_RESOURCE_ATTRIBUTES": variable}, pod=POD))
    assert service["service.name"] == f"the-{WORKLOADS[first]}"


@pytest.mark.parametrize(
    ("hints", "expected"),
    [
        (ServiceHints(ALL, pod=ANNOTATED), ("own-namespace", "own-instance", "own-version")),
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
    service = resolve_service(hints)
    names = ("service.namespace", "service.instance.id", "service.version")
    assert tuple(service.get(name) for name in names) == expected


def test_other_attributes_of_the_environment_are_ignored() -> None:
    variable = "api.key=hunter2,host.name=evil,k8s.pod.name=evil,deployment.environment.name=prod"
    service = resolve_service(ServiceHints({"OTEL_RESOURCE_ATTRIBUTES": variable}, comm="main"))
    assert service == {"service.name": "main", "deployment.environment.name": "prod"}


def test_all_resource_annotations_are_attributes() -> None:
    assert resolve_service(ServiceHints(pod=ANNOTATED))["team"] == "payments"


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
