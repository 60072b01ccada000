"""Bytes as a ``/proc/PID/environ``: the variables by which a victim names its service."""

from __future__ import annotations

from typing import Final

from otel_oom.enrich.claims import MAX_VALUES_PER_DAY, ClaimBudget
from otel_oom.enrich.service_identity import ServiceHints, resolve_service
from otel_oom.model.text import decode_bytes
from otel_oom.snapshot.environ import VARIABLES, select_variables

_MAX_VARIABLE_CHARS: Final = 4096
_MAX_VALUE_CHARS: Final = 256
_MAX_ATTRIBUTES: Final = 16


def check_input(data: bytes) -> None:
    """Select variables and resolve a service; check that all output is bounded and printable."""
    text = decode_bytes(data)
    variables = select_variables(text)
    assert variables.keys() <= set(VARIABLES)
    for name, value in variables.items():
        assert 0 < len(value) <= _MAX_VARIABLE_CHARS
        assert f"{name}={value}\0" in text
    budget = ClaimBudget(lambda: 0.0)
    claims = budget.admit("/a", variables)
    assert 0 <= claims.dropped_count <= _MAX_ATTRIBUTES < MAX_VALUES_PER_DAY
    identity = resolve_service(ServiceHints(claims=claims))
    assert identity.attributes["service.name"]
    assert len(identity.attributes) <= _MAX_ATTRIBUTES
    assert set(identity.claimed) <= identity.attributes.keys()
    for key, value in identity.attributes.items():
        assert key.isprintable()
        assert value.isprintable()
        assert len(value) <= _MAX_VALUE_CHARS
