"""The registry, compared with the constants and with OpenTelemetry's conventions."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest
import yaml
from opentelemetry.semconv.schemas import Schemas

from otel_oom.agent.metrics.attributes import ITEMS
from otel_oom.capture.bpf import records
from otel_oom.commands.replay.timestamps import FILE, GIVEN, LOG, WITHOUT_YEAR, WITHOUT_ZONE
from otel_oom.enrich.finding import Cause
from otel_oom.model.events import CapturedEvent, StoredEvent
from otel_oom.model.types import JOURNAL, TEXT_FILE, UNVERIFIED
from otel_oom.otlp import semconv
from tests.testlib.command import run_command
from tests.testlib.registry import (
    FOLDER,
    Registry,
    convention_attributes,
    convention_metrics,
    load_manifest,
    load_registry,
)

CONSTANTS = {
    value
    for name, value in vars(semconv).items()
    if name.isupper() and name not in {"SCOPE", "SCHEMA_URL"}
}
EVENTS = (*get_args(CapturedEvent), *get_args(StoredEvent))
TYPES = {"string", "string[]", "int", "int[]", "double", "boolean"} | {
    f"template[{type_}]" for type_ in ("int", "double")
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def test_constants_and_registry_have_the_same_names(registry: Registry) -> None:
    groups = registry.groups.values()
    events = [group["name"] for group in groups if group["type"] == "event"]
    metrics = [group["metric_name"] for group in groups if group["type"] == "metric"]
    assert {*registry.attributes, *events, *metrics} == CONSTANTS


def test_constants_are_named_by_their_values() -> None:
    for constant, value in vars(semconv).items():
        if constant.isupper() and constant not in {"SCOPE", "SCHEMA_URL"}:
            name = value.removeprefix("otel_").removeprefix("oom.").replace(".", "_").upper()
            assert constant in {name, f"EVENT_{name}", f"SPAN_{name}", f"METRIC_{name}"}


def test_attributes_have_type_stability_and_brief(registry: Registry) -> None:
    for group in registry.groups.values():
        for definition in group.get("attributes", ()):
            if name := definition.get("id"):
                attribute = registry.attributes[name]
                assert attribute.type in TYPES, name
                assert definition["stability"] == "development", name
                assert attribute.brief.strip().endswith("."), name
                needs_example = attribute.type == "string" and not attribute.members
                assert definition.get("examples") or not needs_example, name


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("oom.cause", get_args(Cause)),
        ("oom.decision.constraint", records.CONSTRAINTS.values()),
        ("oom.log.source", (JOURNAL, TEXT_FILE, UNVERIFIED)),
        ("oom.reaper.stage", records.STAGES.values()),
        ("oom.time.source", (LOG, WITHOUT_ZONE, WITHOUT_YEAR, GIVEN, FILE, "record")),
        ("otel_oom.event.kind", (event.kind for event in EVENTS)),
        ("otel_oom.signal", ITEMS),
    ],
)
def test_members_are_all_values_of_the_code(
    registry: Registry, name: str, values: Iterable[str]
) -> None:
    """Also of those values that no test sends."""
    assert registry.attributes[name].members.keys() == set(values)


def test_ids_are_those_of_the_names(registry: Registry) -> None:
    """What is sent is looked up by these ids."""
    for id_, group in registry.groups.items():
        name = group.get("name") or group.get("metric_name")
        assert name is None or id_ == f"{group['type']}.{name}"


def test_every_reference_resolves(registry: Registry) -> None:
    """It names an attribute of this registry, or one of the pinned conventions."""
    for id_ in registry.groups:
        for name in registry.uses(id_):
            conventions = convention_attributes(name.partition(".")[0])
            assert name in registry.attributes or name in conventions, (id_, name)
    assert registry.imported_metrics <= convention_metrics()


def test_every_attribute_is_used(registry: Registry) -> None:
    used = {name for id_ in registry.groups for name in registry.uses(id_)}
    assert set(registry.attributes) <= used


def test_the_dependency_is_the_pinned_version_of_the_conventions() -> None:
    """That of the schema URL which is sent, and of the package with the names."""
    (dependency,) = load_manifest()["dependencies"]
    newest = list(Schemas)[-1].value
    assert dependency["schema_url"] == semconv.SCHEMA_URL == newest
    assert f"@v{newest.rpartition('/')[2]}[model]" in dependency["registry_path"]


def test_entities_have_attributes_in_the_resource(registry: Registry) -> None:
    for group in registry.groups.values():
        entities = group.get("entity_associations", ())
        resource = "resource.otel_oom" if group["type"] == "metric" else "resource.oom"
        for entity in entities:
            assert any(name.startswith(f"{entity}.") for name in registry.uses(resource))
        assert (
            entities
            or group["type"] == "attribute_group"
            or "log.record.uid" not in (registry.uses(group["id"]))
        )


@pytest.mark.skipif(not shutil.which("weaver"), reason="weaver is not on the PATH")
def test_weaver_accepts_the_registry(tmp_path: Path) -> None:
    """Against the names of the pinned package: weaver alone would fetch the conventions."""
    registry, conventions = tmp_path / "registry", tmp_path / "conventions"
    shutil.copytree(FOLDER, registry)
    manifest = load_manifest()
    manifest["dependencies"][0]["registry_path"] = str(conventions)
    (registry / "manifest.yaml").write_text(yaml.safe_dump(manifest), encoding="utf-8")
    _write_conventions(conventions, load_registry())
    checked = run_command(["weaver", "registry", "check", "--future", "--registry", registry])
    assert checked.code == 0, checked


def _write_conventions(folder: Path, registry: Registry) -> None:
    """Write a registry with those names of the conventions that ours may use."""
    names = {name for id_ in registry.groups for name in registry.uses(id_)}
    areas = {name.partition(".")[0] for name in names - set(registry.attributes)}
    common = {"stability": "stable", "brief": "Of OpenTelemetry."}
    attributes = [
        {"id": name, "type": "int", **common}
        for area in sorted(areas)
        for name in sorted(convention_attributes(area))
    ]
    entities = {
        e for group in registry.groups.values() for e in group.get("entity_associations", ())
    }
    groups = [
        {"id": "registry", "type": "attribute_group", "brief": "All.", "attributes": attributes},
        *(
            {
                "id": f"entity.{name}",
                "type": "entity",
                "name": name,
                "attributes": [{"ref": attributes[0]["id"], "role": "identifying"}],
                **common,
            }
            for name in sorted(entities)
        ),
        *(
            {
                "id": f"metric.{name}",
                "type": "metric",
                "metric_name": name,
                "instrument": "counter",
                "unit": "1",
                **common,
            }
            for name in sorted(convention_metrics())
            if name in registry.imported_metrics
        ),
    ]
    folder.mkdir()
    url = load_manifest()["dependencies"][0]["schema_url"]
    for name, content in (("manifest", {"schema_url": url}), ("all", {"groups": groups})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
