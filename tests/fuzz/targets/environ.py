"""Bytes as a ``/proc/PID/environ``: the variables by which a victim names its service.

And as a command line: the memory settings of its runtime.
"""

from __future__ import annotations

import re
from typing import Final

from otel_oom.enrich.claims import MAX_VALUES_PER_DAY, ClaimBudget
from otel_oom.enrich.service_identity import ServiceHints, resolve_service
from otel_oom.linux.runtimes import settings
from otel_oom.linux.start_settings import IDENTITY_VARIABLES, select_variables
from otel_oom.model.text import decode_bytes

_MAX_VARIABLE_CHARS: Final = 4096
_MAX_VALUE_CHARS: Final = 256
_MAX_ATTRIBUTES: Final = 16
_MAX_SETTINGS: Final = 64
_VALUE: Final = re.compile(
    r"[-+]?[A-Za-z]*|0?x?[0-9A-Fa-f.]+[A-Za-z]{0,3}|pymalloc_debug|malloc_debug"
)


def _check_settings(text: str) -> None:
    argv, environ = text.split("\0"), select_variables(text, settings.VARIABLES)
    selected = settings.select_settings(argv, environ)
    assert len(selected) <= _MAX_SETTINGS
    for name, value in selected.items():
        if name in settings.OPTION_VARIABLES:
            options = settings.parse_options(value)
            assert options
            assert all(_VALUE.fullmatch(part) for part in options.values())
        else:
            assert _VALUE.fullmatch(value), value


def check_input(data: bytes) -> None:
    """Select variables and resolve a service; check that all output is bounded and printable."""
    text = decode_bytes(data)
    _check_settings(text)
    variables = select_variables(text.split("\0")[:-1])
    assert variables.keys() <= set(IDENTITY_VARIABLES)
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
