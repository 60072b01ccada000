"""A backend that knows when it received what, and which tenant each record is about."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Final

from google.protobuf.message import Message

from otel_oom.commands.demo.receiver import Reply
from tests.fault_injection.tally import mark_time
from tests.testlib.servers.backend import Backend, Received

_OF_TALLY: Final[tuple[str, ...]] = (
    *("process.pid", "oom.outcome", "log.record.uid"),
    *("oom.missed.count", "oom.missed.reason", "oom.dropped.count"),
)
_SILENT_S: Final = 5.0
_LIMIT_S: Final = 600.0


class TenantBackend(Backend):
    """A backend that keeps the quiet tenant's records whole, and of others what is counted."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet_id = ""
        self._quiet: list[tuple[float, Received]] = []
        self._latest_s = time.monotonic()
        self.hostile_count = 0
        self.crossings: list[Received] = []
        """Records of others that have the quiet tenant's identity, or the other way round."""

    def watch(self, quiet_id: str) -> None:
        """Tell apart the tenants from now on, by the id of the quiet one's container."""
        self._quiet_id = quiet_id

    def quiet(self) -> list[Received]:
        """Return the logs of the quiet tenant."""
        return [record for _, record in self._quiet if hasattr(record.item, "time_unix_nano")]

    def quiet_spans(self) -> list[Received]:
        """Return the spans of the quiet tenant."""
        return [record for _, record in self._quiet if not hasattr(record.item, "time_unix_nano")]

    def quiet_delays_s(self) -> dict[str, float]:
        """Return by uid the seconds from a kill in the kernel to its log here."""
        return {
            record.uid: received_s - int(record.item.time_unix_nano) / 1e9
            for received_s, record in self._quiet
            if hasattr(record.item, "time_unix_nano")
        }

    def wait_until_silent(self) -> None:
        """Wait until nothing more comes."""
        deadline = time.monotonic() + _LIMIT_S
        while time.monotonic() - self._latest_s < _SILENT_S:
            assert time.monotonic() < deadline, "telemetry still comes"
            time.sleep(0.2)

    def __call__(self, request: Message) -> Reply | None:
        """Receive one request."""
        logs, spans = len(self.logs), len(self.spans)
        reply = super().__call__(request)
        now = time.time()
        for records, begin in ((self.logs, logs), (self.spans, spans)):
            for index in range(begin, len(records)):
                records[index] = self._sort(records[index], now)
        self._latest_s = time.monotonic()
        return reply

    def _sort(self, record: Received, now: float) -> Received:
        if not self._quiet_id:
            return record
        if record.resource.get("container.id") == self._quiet_id:
            self._quiet.append((now, record))
            if record.attributes.get("process.executable.name", "tail") not in _QUIET_PROGRAMS:
                self.crossings.append(record)
            return record
        self.hostile_count += record.resource.get("container.name") == "hostile"
        texts = [str(value) for value in record.resource.values()]
        if any(self._quiet_id[:12] in text or text == "quiet-db" for text in texts):
            self.crossings.append(record)
        return _slim(record)


_QUIET_PROGRAMS: Final = ("tail", "busybox")


def _slim(record: Received) -> Received:
    """Return what a tally counts."""
    kept = {name: record.attributes[name] for name in _OF_TALLY if name in record.attributes}
    names = ("event_name", "time_unix_nano")
    fields = {name: getattr(record.item, name) for name in names if hasattr(record.item, name)}
    if hasattr(record.item, "start_time_unix_nano"):
        fields["start_time_unix_nano"] = mark_time(record.item)
    return Received(SimpleNamespace(**fields), kept, {})
