"""The evidence of a cause, compared with the event that has it."""

from __future__ import annotations

from collections.abc import Mapping


def check_evidence(attributes: Mapping[str, object]) -> dict[str, str]:
    """Return the evidence by name; assert that the event has each attribute with that value.

    Fields of a process are those of its line.
    """
    evidence: dict[str, str] = {}
    for name, _, value in (
        text.partition("=") for text in _texts(attributes, "oom.cause.evidence")
    ):
        if name == "oom.tasks.largest":
            fields = set(value.split())
            assert any(fields <= set(line.split()) for line in _texts(attributes, name)), value
        elif isinstance(attributes[name], list | tuple):
            assert any(text in value for text in _texts(attributes, name)), value
        else:
            assert str(attributes[name]) == value, name
        evidence[name] = value
    assert bool(evidence) == (attributes.get("oom.cause", "unknown") != "unknown")
    return evidence


def _texts(attributes: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = attributes.get(name, ())
    assert isinstance(value, list | tuple)
    return tuple(map(str, value))
