"""The largest log events that the agent sends, as OTLP."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from otel_oom.enrich.event import enrich_no_victim, enrich_panic
from otel_oom.enrich.types import EnrichedKill
from otel_oom.linux.kernel_log.report_text import MAX_TEXT_CHARS
from otel_oom.otlp.encode import encode_log
from tests.testlib.samples.events import HOST, NO_VICTIM, PANIC, sample_enriched_kill

_REPORT: Final = "x" * MAX_TEXT_CHARS


def _kill(service: str) -> EnrichedKill:
    kill = sample_enriched_kill(time_unix_ns=time.time_ns(), original=_REPORT)
    return replace(kill, resource={**kill.resource, "service.name": service})


def _kill_with_report(service: str) -> bytes:
    return encode_log(_kill(service))


def _kill_with_all_attributes(service: str) -> bytes:
    """Return a kill whose record and resource have so many attributes that some are dropped."""
    kill = _kill(service)
    labels = {f"container.label.{number}": "x" * 64 for number in range(60)}
    return encode_log(replace(kill, resource={**kill.resource, **labels}))


def _no_victim(service: str) -> bytes:
    event = replace(NO_VICTIM, time_unix_ns=time.time_ns(), original=_REPORT)
    record = enrich_no_victim(event, event.time_unix_ns, HOST)
    return encode_log(replace(record, resource={**record.resource, "service.name": service}))


def _panic(service: str) -> bytes:
    event = replace(PANIC, time_unix_ns=time.time_ns(), original=_REPORT)
    record = enrich_panic(event, event.time_unix_ns, HOST)
    return encode_log(replace(record, resource={**record.resource, "service.name": service}))


RICH_EVENTS: Final[Mapping[str, Callable[[str], bytes]]] = {
    "kill with report": _kill_with_report,
    "kill with all attributes": _kill_with_all_attributes,
    "no victim": _no_victim,
    "panic": _panic,
}
"""Encoders of a present event for a service of this name."""
