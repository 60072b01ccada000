"""Select the allowed part of an environment and a command line: both hold secrets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from otel_oom.linux.runtimes.settings import VARIABLES, select_settings
from otel_oom.model.start_settings import StartSettings

IDENTITY_VARIABLES: Final = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")
"""Others of OpenTelemetry's hold secrets, such as the exporters' headers."""
ALLOWED_VARIABLES: Final = VARIABLES.union(IDENTITY_VARIABLES)
_MAX_CHARS: Final = 4096


def select_variables(
    environ: Iterable[str], names: Collection[str] = IDENTITY_VARIABLES
) -> dict[str, str]:
    """Return the variables of ``names`` in entries ``NAME=value``.

    A value of more than 4096 characters is left out.
    """
    pairs = (entry.partition("=") for entry in environ)
    selected: dict[str, str] = {}
    for name, _, value in pairs:
        # Of two with one name the first counts, as for getenv(3).
        if name in names and 0 < len(value) <= _MAX_CHARS:
            selected.setdefault(name, value)
    return selected


def select_start_settings(
    source: str,
    arguments: Sequence[str],
    environ: Iterable[str],
    *,
    is_complete: bool = True,
    has_command: bool = True,
) -> StartSettings:
    """Return the allowed part of ``arguments`` and of entries ``NAME=value``.

    ``arguments`` may be cut off at their end.
    """
    variables = select_variables(environ, ALLOWED_VARIABLES)
    return StartSettings(
        source,
        {name: variables[name] for name in IDENTITY_VARIABLES if name in variables},
        select_settings(arguments, variables),
        is_complete,
        has_command and is_complete,
    )
