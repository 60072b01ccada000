"""Events that are not sent, and attributes that are not: ``OTEL_OOM_EXCLUDE`` and the like.

A rule is ``cgroup=GLOB,comm=GLOB,scope=NAME``: each of its conditions must hold. Semicolons
separate rules, of which one is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from msgspec import Struct, field

from otel_oom.config.variable import ConfigError, Variable, read_variable

EXCLUDE: Final = "OTEL_OOM_EXCLUDE"
INCLUDE: Final = "OTEL_OOM_INCLUDE"
DROP_ATTRIBUTES: Final = "OTEL_OOM_DROP_ATTRIBUTES"
PROCESSORS: Final = "OTEL_OOM_PROCESSORS"

_GROUP: Final = "otel_oom_processor"

_CONDITIONS: Final = ("cgroup", "comm", "scope")
_SCOPES: Final = ("own", "pod", "ancestor", "host")
_ACCEPTED: Final = (
    "rules such as cgroup=/kubepods*,comm=chrome*;scope=own, of the conditions cgroup, comm and "
    f"scope ({', '.join(_SCOPES)})"
)


class EventRule(Struct, frozen=True):
    """Conditions on a victim: globs of its cgroup and its comm, and the scope of the limit.

    ``None`` is no condition.
    """

    cgroup: str | None = None
    comm: str | None = None
    scope: str | None = None


class FilterConfig(Struct, frozen=True):
    """Rules of exclusion and inclusion, globs of dropped attributes, and processors by name."""

    exclude: tuple[EventRule, ...] = ()
    include: tuple[EventRule, ...] = ()
    dropped_attributes: tuple[str, ...] = ()
    processors: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)

    @property
    def excluders(self) -> tuple[str, ...]:
        """Return what can exclude an event: variables, and names of processors."""
        variables = {EXCLUDE: self.exclude, INCLUDE: self.include}
        return (*(name for name, rules in variables.items() if rules), *self.processors)


NO_FILTERS: Final = FilterConfig()


def read_filters(environ: Mapping[str, str]) -> FilterConfig:
    """Return the filters in ``environ``. Raises ConfigError: a wrong one would send too much."""
    return FilterConfig(
        exclude=_read_rules(read_variable(environ, EXCLUDE)),
        include=_read_rules(read_variable(environ, INCLUDE)),
        dropped_attributes=_read_names(environ, DROP_ATTRIBUTES),
        processors=_load_processors(environ),
    )


def _read_names(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    items = (item.strip() for item in read_variable(environ, name).text.split(","))
    return tuple(dict.fromkeys(item for item in items if item))


def _load_processors(environ: Mapping[str, str]) -> dict[str, Callable[[Any], Any]]:
    names = _read_names(environ, PROCESSORS)
    if not names:
        return {}
    from importlib.metadata import entry_points  # noqa: PLC0415  most agents have no processor

    installed = entry_points(group=_GROUP)
    if not set(names) <= installed.names:
        listed = ", ".join(sorted(installed.names)) or "nothing, as none is installed"
        raise read_variable(environ, PROCESSORS).error(f"a list of {listed}")
    processors = {}
    for name in names:
        try:
            processor = installed[name].load()
            processors[name] = processor() if isinstance(processor, type) else processor
        except Exception as error:
            raise ConfigError(
                f"{PROCESSORS}: {name} can't be loaded: {type(error).__name__}: {error}. "
                "Install what it needs, or leave it out."
            ) from error
    return processors


def _read_rules(variable: Variable) -> tuple[EventRule, ...]:
    return tuple(_parse_rule(variable, text) for text in variable.text.split(";") if text.strip())


def _parse_rule(variable: Variable, text: str) -> EventRule:
    conditions: dict[str, str] = {}
    for item in text.split(","):
        name, _, value = (unquote(part.strip()) for part in item.partition("="))
        if name not in _CONDITIONS or name in conditions or not value:
            raise variable.error(_ACCEPTED, redact=str)
        conditions[name] = value
    if conditions.get("scope", _SCOPES[0]) not in _SCOPES:
        raise variable.error(_ACCEPTED, redact=str)
    return EventRule(**conditions)
