"""The variables of OpenTelemetry's specification and Python SDK, and what becomes of each.

Specification: Environment Variable Specification; OpenTelemetry Protocol Exporter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

_SCOPES: Final = ("", "LOGS_", "TRACES_", "METRICS_")
_OTLP: Final = "OTEL_EXPORTER_OTLP_"


class Use(Enum):
    """What becomes of a variable."""

    SUPPORTED = "supported"
    WARNED = "warned about"
    NOT_APPLICABLE = "not applicable"


class StandardVariable(NamedTuple):
    """A variable, or several of one kind, and a note: the reason if it is not supported."""

    names: tuple[str, ...]
    use: Use
    note: str = ""


def _otlp(option: str, use: Use = Use.SUPPORTED, note: str = "") -> StandardVariable:
    return StandardVariable(tuple(f"{_OTLP}{scope}{option}" for scope in _SCOPES), use, note)


def _of(prefix: str, *names: str, use: Use = Use.SUPPORTED, note: str = "") -> StandardVariable:
    return StandardVariable(tuple(prefix + name for name in names), use, note)


_NO_QUEUE: Final = "events are queued on disk, and sent at once"
_NOT_PLUGGED: Final = "a plug-in for instrumented programs"
_CREDENTIALS: Final = "credentials come from the headers, or from a client certificate"

STANDARD_VARIABLES: Final = (
    StandardVariable(("OTEL_SDK_DISABLED",), Use.SUPPORTED),
    StandardVariable(("OTEL_RESOURCE_ATTRIBUTES",), Use.SUPPORTED),
    StandardVariable(("OTEL_SERVICE_NAME",), Use.SUPPORTED, "of the agent, on its metrics"),
    _of("OTEL_", "LOGS_EXPORTER", "TRACES_EXPORTER", "METRICS_EXPORTER"),
    _of(
        "OTEL_",
        "TRACES_SAMPLER",
        note="`always_off` and `parentbased_always_off` send no spans; another than these and "
        "`always_on` is ignored with a warning: a part of the kills is no choice",
    ),
    _of(
        "OTEL_",
        "TRACES_SAMPLER_ARG",
        use=Use.NOT_APPLICABLE,
        note="no supported sampler has an argument",
    ),
    StandardVariable(
        ("OTEL_ENTITIES",), Use.SUPPORTED, "as attributes, like `OTEL_RESOURCE_ATTRIBUTES`"
    ),
    StandardVariable(("OTEL_LOG_LEVEL",), Use.SUPPORTED, "of the agent's own log"),
    _of(
        "OTEL_",
        "CONFIG_FILE",
        note="with the package `opentelemetry-configuration`; the file replaces all variables of "
        "this table, and an unsupported part of it is an error",
    ),
    _of(
        "OTEL_",
        "EXPERIMENTAL_CONFIG_FILE",
        use=Use.WARNED,
        note="obsolete: use `OTEL_CONFIG_FILE`",
    ),
    *map(_otlp, ("ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION")),
    *map(_otlp, ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE", "INSECURE")),
    _of(
        _OTLP,
        *("SPAN_INSECURE", "METRIC_INSECURE"),
        use=Use.WARNED,
        note="obsolete: use `OTEL_EXPORTER_OTLP_INSECURE`",
    ),
    _of(f"{_OTLP}METRICS_", "TEMPORALITY_PREFERENCE", "DEFAULT_HISTOGRAM_AGGREGATION"),
    _of("OTEL_METRIC_EXPORT_", "INTERVAL", "TIMEOUT"),
    StandardVariable(("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",), Use.SUPPORTED),
    _of("OTEL_ATTRIBUTE_", "COUNT_LIMIT", "VALUE_LENGTH_LIMIT"),
    _of("OTEL_LOGRECORD_ATTRIBUTE_", "COUNT_LIMIT", "VALUE_LENGTH_LIMIT"),
    _of("OTEL_SPAN_ATTRIBUTE_", "COUNT_LIMIT", "VALUE_LENGTH_LIMIT"),
    _of("OTEL_", "SPAN_EVENT_COUNT_LIMIT", "EVENT_ATTRIBUTE_COUNT_LIMIT"),
    _of(
        "OTEL_",
        *("SPAN_LINK_COUNT_LIMIT", "LINK_ATTRIBUTE_COUNT_LIMIT"),
        use=Use.NOT_APPLICABLE,
        note="the spans have no links",
    ),
    _of(
        "OTEL_",
        *("BLRP_EXPORT_TIMEOUT", "BSP_EXPORT_TIMEOUT"),
        note="for one call of an exporter of another package",
    ),
    _of(
        "OTEL_",
        *("BSP_SCHEDULE_DELAY", "BSP_MAX_QUEUE_SIZE", "BSP_MAX_EXPORT_BATCH_SIZE"),
        *("BLRP_SCHEDULE_DELAY", "BLRP_MAX_QUEUE_SIZE", "BLRP_MAX_EXPORT_BATCH_SIZE"),
        use=Use.NOT_APPLICABLE,
        note=_NO_QUEUE,
    ),
    StandardVariable(
        ("OTEL_PROPAGATORS",), Use.NOT_APPLICABLE, "a kill is no request: no context reaches it"
    ),
    StandardVariable(
        ("OTEL_METRICS_EXEMPLAR_FILTER",),
        Use.NOT_APPLICABLE,
        "the agent's metrics are measured outside of any span",
    ),
    _of(
        "OTEL_EXPORTER_",
        *("PROMETHEUS_HOST", "PROMETHEUS_PORT"),
        note="with `OTEL_METRICS_EXPORTER=prometheus`",
    ),
    _of(
        "OTEL_EXPORTER_",
        *("ZIPKIN_ENDPOINT", "ZIPKIN_TIMEOUT"),
        note="by the package of the exporter `zipkin`",
    ),
    _of(
        "OTEL_PYTHON_",
        *("CONTEXT", "ID_GENERATOR", "METER_PROVIDER", "TRACER_PROVIDER", "LOGGER_PROVIDER"),
        *("LOGGER_CONFIGURATOR", "METER_CONFIGURATOR", "TRACER_CONFIGURATOR"),
        use=Use.NOT_APPLICABLE,
        note=_NOT_PLUGGED,
    ),
    StandardVariable(
        ("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED",),
        Use.NOT_APPLICABLE,
        "the agent counts its exports itself",
    ),
    StandardVariable(
        ("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",), Use.NOT_APPLICABLE, _NOT_PLUGGED
    ),
    _of(
        "OTEL_PYTHON_EXPORTER_OTLP_",
        *(f"GRPC_{scope}CREDENTIAL_PROVIDER" for scope in _SCOPES),
        *(f"HTTP_{scope}CREDENTIAL_PROVIDER" for scope in _SCOPES),
        use=Use.WARNED,
        note=_CREDENTIALS,
    ),
    StandardVariable(
        ("OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES",),
        Use.WARNED,
        "the codes of the specification are retried",
    ),
)
"""Each variable of the specification and of the installed SDK, in the order of the docs."""


def otlp_variables() -> frozenset[str]:
    """Return all variables of the official OTLP exporters."""
    return frozenset(
        name
        for variable in STANDARD_VARIABLES
        for name in variable.names
        if name.startswith(_OTLP) and variable.use is Use.SUPPORTED
    )


def unread_variables(environ: Mapping[str, str], own: Collection[str]) -> dict[str, str]:
    """Return the set variables of OpenTelemetry that nothing reads, and why.

    ``own`` are those of the agent itself, which is their only reader.
    """
    return dict(_unread(environ, own))


def _unread(environ: Mapping[str, str], own: Collection[str]) -> Iterator[tuple[str, str]]:
    known = {name: variable for variable in STANDARD_VARIABLES for name in variable.names}
    for name in sorted(environ):
        if name.startswith("OTEL_") and environ[name].strip() and name not in own:
            variable = known.get(name)
            if variable is None:
                yield name, "not a known variable"
            elif variable.use is not Use.SUPPORTED:
                yield name, variable.note
