"""What one real agent sent, and the same as any host of a fleet would send it."""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.testlib.servers.otlp_request import decode_json

RECORDED: Final = Path(__file__).with_name("recorded.jsonl")

_SERVICES: Final = 200
_SERVICES_PER_HOST: Final = 3
_SPACE: Final = uuid.UUID("5f0c7a52-0000-8000-8000-000000000000")
_NUMBER: Final = re.compile(r"\d{3,}")
_SMALL: Final = 1000
_KILL_NS: Final = 3_000_000
_UID: Final = "log.record.uid"
_KILL_IDS: Final = frozenset({"oom.incident.id", "oom.kill.id"})


@dataclass(frozen=True)
class Kill:
    """The messages of one kill, by signal, with their uid."""

    uid: str
    messages: Mapping[str, bytes]


class Recording:
    """Requests of one agent: two log events and a span of a kill, and all of its metrics."""

    def __init__(self, path: Path = RECORDED) -> None:
        requests = [decode_json(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
        by_field = {each.DESCRIPTOR.fields[0].name: each for each in requests if each}
        self._log: Any = by_field["resource_logs"]
        self._span: Any = by_field["resource_spans"]
        self._metrics: Any = by_field["resource_metrics"]

    def encode_kill(self, host: int, number: int, unix_ns: int) -> Kill:
        """Encode a kill of a pod of a host; each has other ids, times and numbers.

        The numbers are random, so that a store can compress them no better than real ones.
        """
        uid = uuid.uuid5(_SPACE, f"{host}/{number}")
        log, span = _copy(self._log), _copy(self._span)
        kill, end = (
            record
            for group in log.resource_logs
            for scope in group.scope_logs
            for record in scope.log_records
        )
        kill_span = span.resource_spans[0].scope_spans[0].spans[0]
        kill_span.start_time_unix_nano = unix_ns
        kill_span.end_time_unix_nano = unix_ns + _KILL_NS
        for record in (kill, end):
            record.time_unix_nano = record.observed_time_unix_nano = unix_ns
        for item in (kill, end, kill_span):
            item.trace_id, item.span_id = uid.bytes, uid.bytes[:8]
            # The log and the span of a kill have the same values.
            rng = random.Random(uid.int)  # noqa: S311  no secret
            own_uid = uuid.uuid5(uid, "end") if item is end else uid
            _redraw(item.attributes, uid, own_uid, rng)
        kill.body.string_value = _redraw_digits(kill.body.string_value, rng)
        resource = _host_resource(host) | _pod_resource(host, uid)
        for group in (*log.resource_logs, *span.resource_spans):
            _set_strings(group.resource.attributes, resource)
        messages = {"logs": log.SerializeToString(), "traces": span.SerializeToString()}
        return Kill(str(uid), messages)

    def encode_metrics(self, host: int, unix_ns: int) -> bytes:
        """Encode an export of all metrics of a host."""
        request = _copy(self._metrics)
        group = request.resource_metrics[0]
        resource = _host_resource(host)
        instance = {"service.instance.id": resource["host.id"]}
        _set_strings(group.resource.attributes, resource | instance)
        for metric in group.scope_metrics[0].metrics:
            for point in getattr(metric, metric.WhichOneof("data")).data_points:
                point.time_unix_nano = unix_ns
        return bytes(request.SerializeToString())


def _copy(message: Message) -> Any:  # noqa: ANN401  the class of a request of any signal
    copied = type(message)()
    copied.CopyFrom(message)
    return copied


def _host_resource(host: int) -> dict[str, str]:
    name = f"node-{host:06}"
    return {"host.name": name, "host.id": uuid.uuid5(_SPACE, name).hex}


def _pod_resource(host: int, uid: uuid.UUID) -> dict[str, str]:
    service = f"shop-{(host + uid.int % _SERVICES_PER_HOST) % _SERVICES:03}"
    return {
        "service.name": service,
        "k8s.namespace.name": "shop",
        "k8s.pod.name": f"{service}-{uid.hex[:10]}-{uid.hex[10:15]}",
        "k8s.pod.uid": str(uuid.uuid5(_SPACE, uid.hex)),
        "k8s.container.name": "web",
        "container.id": uid.hex + uid.hex[::-1],
    }


def _set_strings(attributes: Any, values: Mapping[str, str]) -> None:  # noqa: ANN401  a repeated field
    others = [each for each in attributes if each.key not in values]
    new = [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in values.items()]
    del attributes[:]
    attributes.extend([*others, *new])


def _redraw(
    attributes: Iterable[KeyValue], kill: uuid.UUID, uid: uuid.UUID, rng: random.Random
) -> None:
    for attribute in attributes:
        if attribute.key == _UID or attribute.key in _KILL_IDS:
            attribute.value.string_value = str(uid if attribute.key == _UID else kill)
        elif not attribute.key.endswith("time"):
            _redraw_value(attribute.value, rng)


def _redraw_value(value: AnyValue, rng: random.Random) -> None:
    kind = value.WhichOneof("value")
    if kind == "int_value" and value.int_value >= _SMALL:
        value.int_value = rng.randrange(value.int_value // 2, 2 * value.int_value)
    elif kind == "string_value":
        value.string_value = _redraw_digits(value.string_value, rng)
    elif kind == "array_value":
        for each in value.array_value.values:
            _redraw_value(each, rng)


def _redraw_digits(text: str, rng: random.Random) -> str:
    return _NUMBER.sub(lambda match: str(rng.randrange(10 ** len(match[0]))), text)
