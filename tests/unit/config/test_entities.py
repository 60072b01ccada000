"""``OTEL_ENTITIES``, by the examples of the specification ("Entity Propagation")."""

from __future__ import annotations

import pytest

from otel_oom.config.entities import read_entities
from otel_oom.config.otlp import read_otlp_config

SERVICE = "service{service.name=my-app,service.instance.id=instance-1}[service.version=1.0.0]"


@pytest.mark.parametrize(
    ("text", "attributes", "warnings"),
    [
        ("", {}, 0),
        (
            f"{SERVICE}@https://opentelemetry.io/schemas/1.21.0;host{{host.id=host-123}}",
            {
                "service.name": "my-app",
                "service.instance.id": "instance-1",
                "service.version": "1.0.0",
                "host.id": "host-123",
            },
            0,
        ),
        (
            ";service{service.name=app1};;host{host.id=host-123};",
            {"service.name": "app1", "host.id": "host-123"},
            0,
        ),
        (
            "service{service.name=my%2Capp}[config=key%3Dvalue%5Bprod%5D]",
            {"service.name": "my,app", "config": "key=value[prod]"},
            0,
        ),
        (
            "service{service.name=app1};invalid{syntax;service{service.name=app2}",
            {"service.name": "app2"},
            2,
        ),
        ("service{};host{host.id=123}", {"host.id": "123"}, 1),
        (
            "service{service.name=app1}[version=1.0];service{service.name=app1}[version=2.0]",
            {"service.name": "app1", "version": "2.0"},
            1,
        ),
    ],
)
def test_entities_are_attributes(text: str, attributes: dict[str, str], warnings: int) -> None:
    """A malformed one is skipped, and of several of a type the last one counts."""
    found: list[str] = []
    assert read_entities({"OTEL_ENTITIES": text}, found.append) == attributes
    assert len(found) == warnings


def test_resource_attributes_win() -> None:
    environ = {
        "OTEL_ENTITIES": "host{host.id=1}[host.name=a]",
        "OTEL_RESOURCE_ATTRIBUTES": "host.name=b",
    }
    assert read_otlp_config(environ).resource == {"host.id": "1", "host.name": "b"}
