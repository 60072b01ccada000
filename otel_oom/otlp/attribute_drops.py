"""``OTEL_OOM_DROP_ATTRIBUTES``, applied to events and to encoded spans."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from typing import TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.otlp.event import Event
from otel_oom.otlp.log_record import RECORD_UID

_Value = TypeVar("_Value")


class AttributeDrops:
    """Globs of the names of attributes that are not sent."""

    def __init__(self, globs: Sequence[str]) -> None:
        self._pattern = re.compile("|".join(map(translate, globs)) or r"(?!)")

    def drop_from_event(self, event: Event) -> Event:
        """Return an event without these attributes, of its resource too."""
        attributes, resource = self._select(event.attributes), self._select(event.resource)
        return replace(event, attributes=attributes, resource=resource)

    def drop_from_spans(self, request: ExportTraceServiceRequest) -> None:
        """Drop the attributes that spans have beside those of their event: how it ended."""
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._drop_from_item(span)
                    for event in span.events:
                        self._drop_from_item(event)

    def _drop_from_item(self, item: Span | Span.Event) -> None:
        kept = [each for each in item.attributes if not self._is_dropped(each.key)]
        if len(kept) < len(item.attributes):
            del item.attributes[:]
            item.attributes.extend(kept)

    def _select(self, attributes: Mapping[str, _Value]) -> dict[str, _Value]:
        return {k: v for k, v in attributes.items() if not self._is_dropped(k)}

    def _is_dropped(self, name: str) -> bool:
        return name != RECORD_UID and self._pattern.match(name) is not None
