"""Bytes as a ``/proc/PID/environ``: the variables by which a victim names its service."""

from __future__ import annotations

from typing import Final

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
    attributes = resolve_service(ServiceHints(environ=variables))
    assert attributes["service.name"]
    assert len(attributes) <= _MAX_ATTRIBUTES
    for key, value in attributes.items():
        assert key.isprintable()
        assert value.isprintable()
        assert len(value) <= _MAX_VALUE_CHARS
