"""The registry of ``otel_oom/otlp/registry``, resolved, and the names of OpenTelemetry's own."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import yaml

from tests.testlib.repository import REPOSITORY

FOLDER: Final = REPOSITORY / "otel_oom/otlp/registry"
_MANIFEST: Final = "manifest.yaml"
_CONVENTIONS: Final = "opentelemetry.semconv"

Group = Mapping[str, Any]


@dataclass(frozen=True)
class Attribute:
    """A definition; ``members`` are the values of an enumeration by their briefs."""

    name: str
    type: str
    brief: str
    note: str
    members: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Registry:
    """The attributes defined here by name, all groups by id, and the names of imported metrics."""

    attributes: Mapping[str, Attribute]
    groups: Mapping[str, Group]
    imported_metrics: frozenset[str]

    def uses(self, group_id: str) -> dict[str, Any]:
        """Return the requirement level of each attribute, with those that the group extends."""
        group = self.groups[group_id]
        parent = self.uses(group["extends"]) if "extends" in group else {}
        own = {
            use["ref"]: use.get("requirement_level", parent.get(use["ref"], "recommended"))
            for use in group.get("attributes", ())
            if "ref" in use
        }
        return parent | own


@cache
def load_registry() -> Registry:
    """Read all files of the registry."""
    files = [_parse(file) for file in sorted(FOLDER.rglob("*.yaml")) if file.name != _MANIFEST]
    groups = [group for file in files for group in file.get("groups", ())]
    definitions = [
        _attribute(attribute)
        for group in groups
        for attribute in group.get("attributes", ())
        if "id" in attribute
    ]
    assert len({group["id"] for group in groups}) == len(groups)
    assert len({attribute.name for attribute in definitions}) == len(definitions)
    return Registry(
        {attribute.name: attribute for attribute in definitions},
        {group["id"]: group for group in groups},
        frozenset(name for file in files for name in file.get("imports", {}).get("metrics", ())),
    )


def load_manifest() -> dict[str, Any]:
    """Read the manifest."""
    return dict(_parse(FOLDER / _MANIFEST))


def _attribute(definition: Group) -> Attribute:
    members = definition["type"]["members"] if isinstance(definition["type"], dict) else ()
    return Attribute(
        definition["id"],
        "string" if members else definition["type"],
        definition["brief"],
        definition.get("note", ""),
        {member["value"]: member.get("brief", "") for member in members},
    )


def _parse(file: Path) -> Any:  # noqa: ANN401  YAML
    return yaml.load(file.read_bytes(), yaml.CSafeLoader)


@cache
def convention_attributes(area: str) -> frozenset[str]:
    """Return the attributes of OpenTelemetry whose names begin with ``area``."""
    return frozenset(
        name
        for module in _modules(f"attributes.{area}_attributes")
        for name in _texts(module)
        if name.startswith(f"{area}.")
    )


@cache
def convention_metrics() -> frozenset[str]:
    """Return the metrics of OpenTelemetry."""
    package = importlib.import_module(f"{_CONVENTIONS}._incubating.metrics")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return frozenset(
        text for name in names for module in _modules(f"metrics.{name}") for text in _texts(module)
    )


def convention_sources(area: str) -> Iterator[str]:
    """Yield the sources of the modules of ``area``; the stable names come last.

    The others only refer to them.
    """
    yield from map(inspect.getsource, _modules(f"attributes.{area}_attributes"))


def _modules(name: str) -> Iterator[ModuleType]:
    for module in (f"{_CONVENTIONS}._incubating.{name}", f"{_CONVENTIONS}.{name}"):
        try:
            yield importlib.import_module(module)
        except ModuleNotFoundError:
            continue


def _texts(module: ModuleType) -> Iterator[str]:
    for constant, value in vars(module).items():
        if constant.isupper() and isinstance(value, str):
            yield value
