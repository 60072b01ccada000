"""The attributes of ``OTEL_ENTITIES``.

Specification: Entity Propagation, "Specifying entity information via an environment variable".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from otel_oom.config.variable import Warn, read_variable

_NAME: Final = r"[a-zA-Z][a-zA-Z0-9._-]*"
_PAIR: Final = rf"\s*{_NAME}\s*=[^{{}}\[\]@;,=]*"
_PAIRS: Final = rf"{_PAIR}(?:,{_PAIR})*"
_ENTITY: Final = re.compile(
    rf"\s*(?P<type>{_NAME})\s*\{{(?P<id>{_PAIRS})\}}(?:\[(?P<description>{_PAIRS})\])?(?:@\S*)?\s*"
)


def read_entities(environ: Mapping[str, str], warn: Warn) -> dict[str, str]:
    """Return the attributes of all entities; of several of one type the last one counts.

    ``warn`` gets a sentence for each entity that is ignored.
    """
    variable = read_variable(environ, "OTEL_ENTITIES")
    entities: dict[str, dict[str, str]] = {}
    for text in filter(str.strip, variable.text.split(";")):
        match = _ENTITY.fullmatch(text)
        if match is None:
            warn(
                f"{variable.name} has an entity that is not type{{key=value}}[key=value]: "
                "it is ignored."
            )
            continue
        if match["type"] in entities:
            warn(f"{variable.name} has several entities {match['type']}: the last one counts.")
        entities[match["type"]] = {
            **_parse_pairs(match["description"] or ""),
            **_parse_pairs(match["id"]),
        }
    return {name: value for entity in entities.values() for name, value in entity.items()}


def _parse_pairs(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split(",") if item)
    return {key.strip(): unquote(value.strip()) for key, _, value in pairs}
