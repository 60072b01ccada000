"""The registry, compared with the constants and with encoded events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.semconv._incubating.attributes import log_attributes, process_attributes

from otel_oom.enrich.event import enrich_panic
from otel_oom.otlp import semconv
from otel_oom.otlp.attributes import kill_attributes, panic_attributes
from tests.testlib.samples.events import HOST, PANIC, sample_enriched_kill

REGISTRY = Path(semconv.__file__).with_name("registry.yaml")
CONSTANTS = {
    value
    for name, value in vars(semconv).items()
    if name.isupper() and name not in {"SCOPE", "SCHEMA_URL"}
}
TYPES = {
    "string": str,
    "string[]": tuple,
    "int": int,
    "double": float,
    "boolean": bool,
    "template[int]": int,
    "template[double]": float,
}
"""Those of the registry that we have, and what they are here."""


@pytest.fixture(scope="module")
def groups() -> dict[str, dict[str, Any]]:
    """The registry's groups by their ids."""
    content = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    return {group["id"]: group for group in content["groups"]}


def test_constants_and_registry_have_the_same_names(
    groups: dict[str, dict[str, Any]],
) -> None:
    attributes = [
        attribute["id"]
        for group in ("registry.oom", "registry.otel_oom")
        for attribute in groups[group]["attributes"]
    ]
    events = [group["name"] for group in groups.values() if group["type"] == "event"]
    metrics = [group["metric_name"] for group in groups.values() if group["type"] == "metric"]
    assert len(attributes) == len(set(attributes))
    assert {*attributes, *events, *metrics} == CONSTANTS


def test_constants_are_named_by_their_values() -> None:
    for constant, value in vars(semconv).items():
        if constant.isupper() and constant not in {"SCOPE", "SCHEMA_URL"}:
            name = value.removeprefix("otel_").removeprefix("oom.").replace(".", "_").upper()
            assert constant in {name, f"EVENT_{name}", f"SPAN_{name}", f"METRIC_{name}"}


def test_attributes_have_type_stability_and_brief(groups: dict[str, dict[str, Any]]) -> None:
    for attribute in groups["registry.oom"]["attributes"]:
        assert attribute["type"] in TYPES, attribute
        assert attribute["stability"] == "development"
        assert attribute["brief"].endswith(".")


def test_attributes_of_a_kill_are_registered(groups: dict[str, dict[str, Any]]) -> None:
    registered = {attribute["ref"] for attribute in groups["event.oom.kill"]["attributes"]}
    types = {a["id"]: a["type"] for a in groups["registry.oom"]["attributes"]}
    templates = {name for name, type_ in types.items() if type_.startswith("template")}
    for name, value in kill_attributes(sample_enriched_kill()).items():
        of = next((prefix for prefix in templates if name.startswith(f"{prefix}.")), name)
        assert of in registered
        if of.startswith("oom."):
            assert type(value) is TYPES[types[of]]


def test_attributes_of_a_panic_are_registered(groups: dict[str, dict[str, Any]]) -> None:
    registered = {attribute["ref"] for attribute in groups["event.oom.panic"]["attributes"]}
    sent = panic_attributes(enrich_panic(PANIC, 0, HOST))
    # The log has no inode, and the sample's cgroup has one.
    assert set(sent) - registered == {"oom.limit.memcg.id"}


def test_resource_is_registered(groups: dict[str, dict[str, Any]]) -> None:
    registered = {attribute["ref"] for attribute in groups["resource.oom"]["attributes"]}
    assert set(sample_enriched_kill().resource) <= registered


def test_other_names_are_in_the_semantic_conventions(groups: dict[str, dict[str, Any]]) -> None:
    conventions = {
        value
        for module in (log_attributes, process_attributes)
        for value in vars(module).values()
        if isinstance(value, str)
    }
    for event in ("kill", "panic"):
        for attribute in groups[f"event.oom.{event}"]["attributes"]:
            name = attribute["ref"]
            assert name.startswith("oom.") or name in conventions
