"""The settings of a runtime as numbers, by the precedence of their sources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from otel_oom.linux.runtimes.settings import OPTION_VARIABLES, format_setting, parse_options
from otel_oom.model.units import KIB, MIB

COMMAND_LINE: Final = ""

_SIZE: Final = re.compile(r"(0x[0-9a-f]{1,16}|[0-9]{1,19}(?:\.[0-9]{1,9})?)([kmgt]?)(?:i?b)?")
_FACTORS: Final = {"k": KIB, "m": MIB, "g": KIB * MIB, "t": MIB * MIB}


class Setting(Struct, frozen=True):
    """The value of a setting, and its text, after the variable that has it."""

    value: str
    text: str


def find_settings(settings: Mapping[str, str], *sources: str) -> dict[str, Setting]:
    """Return the settings by name, the one that was given last at the end.

    Each source is a variable with options, or :data:`COMMAND_LINE`; a later one counts more.
    """
    by_name: dict[str, Setting] = {}
    for source in sources:
        prefix = f"{source}=" if source else ""
        options = parse_options(settings.get(source, "")) if source else settings
        for name, value in options.items():
            if name not in OPTION_VARIABLES:
                by_name.pop(name, None)
                by_name[name] = Setting(value, f"{prefix}{format_setting(name, value)}")
    return by_name


def parse_size(text: str, unit_bytes: int = 1) -> int | None:
    """Return a size in bytes, such as ``512m`` or ``1GiB``; a bare number is in ``unit_bytes``."""
    match = _SIZE.fullmatch(text.lower())
    if match is None:
        return None
    number, suffix = match.groups()
    factor = _FACTORS.get(suffix, unit_bytes)
    if number.startswith("0x"):
        return int(number, 16) * factor
    return int(float(number) * factor) if "." in number else int(number) * factor
