"""The file of declarative configuration, as the variables that it replaces.

The official package ``opentelemetry-configuration`` parses and validates it. Specification:
Configuration SDK; the model is that of opentelemetry-configuration's schema.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final
from urllib.parse import quote

from otel_oom.config.variable import ConfigError, Variable, Warn

_EXTRA: Final = "pip install 'otel-oom[config]'"
_MS_PER_S: Final = 1000

_SUPPORTED: Final = re.compile(
    r"file_format|disabled|log_level|attribute_limits\..*"
    r"|resource\.(attributes\.\d+\.(name|value|type)|attributes_list|schema_url)"
    r"|logger_provider\.limits\..*"
    r"|tracer_provider\.limits\.(attribute_.*|event_.*)"
    r"|tracer_provider\.sampler\.(parent_based\.root\.)?always_(on|off)"
    r"|(logger|tracer)_provider\.processors\.\d+\.(batch|simple)\.exporter\.otlp_(http|grpc)\..*"
    r"|meter_provider\.readers\.\d+\.periodic\.(interval|timeout|exporter\.otlp_(http|grpc)\..*)"
)
_IGNORED: Final = re.compile(
    r"propagator\..*|instrumentation_development\..*|distribution\..*"
    r"|(logger|tracer)_provider\.processors\.\d+\.batch"
    r"\.(schedule_delay|export_timeout|max_queue_size|max_export_batch_size)"
    r"|tracer_provider\.limits\.link_.*|meter_provider\.exemplar_filter"
)
"""Paths without an effect on an agent. All others would change what is sent, and end it."""

_TLS: Final = {
    "ca_file": "CERTIFICATE",
    "key_file": "CLIENT_KEY",
    "cert_file": "CLIENT_CERTIFICATE",
    "insecure": "INSECURE",
}


def read_file_variables(variable: Variable, warn: Warn) -> dict[str, str]:
    """Return the variables of the file that ``variable`` names, by their names.

    ``warn`` gets a sentence about what of the file has no effect. Raises ConfigError for an
    invalid file, and for what of it is not supported.
    """
    model = _load(variable)
    ignored = []
    for path in _paths(model):
        if _IGNORED.fullmatch(path):
            ignored.append(path)
        elif not _SUPPORTED.fullmatch(path):
            raise ConfigError(f"{variable.name}: {path} is not supported; remove it.")
    if ignored:
        warn(f"{variable.name}: without effect here: {', '.join(ignored)}.")
    try:
        return dict(_variables(model))
    except ConfigError as error:
        raise ConfigError(f"{variable.name}: {error}") from None


def _load(variable: Variable) -> Any:  # noqa: ANN401  the package's model, which may be missing
    try:
        from opentelemetry.configuration import (  # noqa: PLC0415  10 MB that few need
            ConfigurationError,
            load_config_file,
        )
    except ImportError as error:
        raise ConfigError(
            f"{variable.name} needs the package opentelemetry-configuration: {_EXTRA} ({error})."
        ) from None
    try:
        return load_config_file(variable.text)
    except (ConfigurationError, OSError, ValueError) as error:
        message = str(error).partition("\n")[0]
        raise ConfigError(f"{variable.name}={variable.text!r} can't be used: {message}.") from None


def _paths(value: object, path: str = "") -> Iterator[str]:
    """Yield the path of each value that the file sets."""
    fields: Mapping[str, object]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        extra = getattr(value, "additional_properties", None)
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: getattr(value, name) for name in names} | dict(extra or {})
    elif isinstance(value, list):
        fields = {str(index): item for index, item in enumerate(value)}
    else:
        yield path
        return
    for name, item in fields.items():
        if item is not None:
            yield from _paths(item, f"{path}.{name}" if path else name)


def _variables(model: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  see _load()
    if model.disabled is not None:
        yield "OTEL_SDK_DISABLED", str(model.disabled).lower()
    if model.log_level is not None:
        level = model.log_level.value.rstrip("234")
        yield "OTEL_LOG_LEVEL", {"trace": "debug"}.get(level, level)
    yield from _limits("ATTRIBUTE", model.attribute_limits, "attribute_")
    if model.resource:
        attributes = [
            f"{quote(one.name)}={quote(str(one.value))}" for one in model.resource.attributes or ()
        ]
        texts = [*filter(None, [model.resource.attributes_list]), *attributes]
        yield "OTEL_RESOURCE_ATTRIBUTES", ",".join(texts)
    for signal, provider in (("LOGS", model.logger_provider), ("TRACES", model.tracer_provider)):
        yield from _exporter(signal, provider and provider.processors, _processor_exporter)
    if model.logger_provider:
        yield from _limits("LOGRECORD_ATTRIBUTE", model.logger_provider.limits, "attribute_")
    if model.tracer_provider:
        limits = model.tracer_provider.limits
        yield from _limits("SPAN_ATTRIBUTE", limits, "attribute_")
        yield from _limits("SPAN_EVENT", limits, "event_")
        yield from _limits("EVENT_ATTRIBUTE", limits, "event_attribute_")
        yield from _sampler(model.tracer_provider.sampler)
    readers = model.meter_provider and model.meter_provider.readers
    yield from _exporter("METRICS", readers, lambda reader: reader.periodic.exporter)
    for reader in readers or ():
        for name in ("interval", "timeout"):
            value = getattr(reader.periodic, name)
            if value is not None:
                yield f"OTEL_METRIC_EXPORT_{name.upper()}", str(value)


def _limits(scope: str, limits: object, prefix: str) -> Iterator[tuple[str, str]]:
    for name in ("count_limit", "value_length_limit"):
        value = getattr(limits, prefix + name, None)
        if value is not None:
            yield f"OTEL_{scope}_{name.upper()}", str(value)


def _sampler(sampler: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  see _load()
    root = sampler.parent_based.root if sampler and sampler.parent_based else sampler
    # A sampler without options is an empty mapping.
    if root is not None and root.always_off is not None:
        yield "OTEL_TRACES_SAMPLER", "always_off"


def _processor_exporter(processor: Any) -> Any:  # noqa: ANN401  see _load()
    return (processor.batch or processor.simple).exporter


def _exporter(
    signal: str, parts: Sequence[Any] | None, exporter_of: Callable[[Any], Any]
) -> Iterator[tuple[str, str]]:
    """Yield the variables of a signal's exporter; without one the signal is off."""
    if not parts:
        yield f"OTEL_{signal}_EXPORTER", "none"
        return
    if len(parts) > 1:
        raise ConfigError(f"more than one exporter of {signal.lower()}; name one.")
    exporter = exporter_of(parts[0])
    grpc = exporter.otlp_grpc is not None
    otlp = exporter.otlp_grpc if grpc else exporter.otlp_http
    if otlp is None:
        raise ConfigError(f"an exporter of {signal.lower()} names no protocol.")
    encoding = getattr(otlp, "encoding", None)
    is_json = encoding is not None and encoding.value == "json"
    prefix = f"OTEL_EXPORTER_OTLP_{signal}_"
    yield f"{prefix}PROTOCOL", "grpc" if grpc else "http/json" if is_json else "http/protobuf"
    default = "http://localhost:4317" if grpc else f"http://localhost:4318/v1/{signal.lower()}"
    yield f"{prefix}ENDPOINT", otlp.endpoint or default
    headers = [f"{quote(one.name)}={quote(one.value or '')}" for one in otlp.headers or ()]
    yield f"{prefix}HEADERS", ",".join([*filter(None, [otlp.headers_list]), *headers])
    yield f"{prefix}COMPRESSION", otlp.compression or ""
    if otlp.timeout:
        yield f"{prefix}TIMEOUT", str(otlp.timeout / _MS_PER_S)
    for name, option in _TLS.items():
        yield prefix + option, str(getattr(otlp.tls, name, None) or "")
    for name in ("temporality_preference", "default_histogram_aggregation"):
        value = getattr(otlp, name, None)
        if isinstance(value, Enum):
            yield prefix + name.upper(), str(value.value).replace("low_memory", "lowmemory")
