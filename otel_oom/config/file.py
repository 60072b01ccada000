"""``OTEL_CONFIG_FILE`` (declarative configuration), in place of variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otel_oom.config.variable import Warn, read_variable

CONFIG_FILE: Final = "OTEL_CONFIG_FILE"


def apply_config_file(environ: Mapping[str, str], warn: Warn) -> Mapping[str, str]:
    """Return ``environ``, with the variables of the file in place of OpenTelemetry's.

    ``warn`` gets a sentence about what of the file has no effect. Raises ConfigError for an
    invalid file, and for what of it is not supported.
    """
    variable = read_variable(environ, CONFIG_FILE)
    if not variable.text:
        return environ
    from otel_oom.config.file_model import read_file_variables  # noqa: PLC0415  few have a file

    own = {
        name: text
        for name, text in environ.items()
        if not name.startswith("OTEL_") or name.startswith("OTEL_OOM_")
    }
    return {**own, **read_file_variables(variable, warn)}
