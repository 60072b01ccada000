"""An exporter of an installed package, by its entry point, as a transport of the outbox.

It may block, fail or hang: each call is in a thread of its own, and one at a time. The thread of
the outbox waits for it no longer than the timeout.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from otel_oom.config.exporters import InstalledExporter
from otel_oom.export.result import ExportResponse, ExportResult, sanitize_reason
from otel_oom.otlp.sdk_objects import decode_log_records, decode_spans

_DECODERS: Final = {"logs": decode_log_records, "traces": decode_spans}
_CLOSE_S: Final = 0.5
_MS_PER_S: Final = 1000


def find_entry_point(signal: str, name: str) -> EntryPoint:
    """Return the entry point of an exporter. Raises LookupError if no package has it."""
    group = f"opentelemetry_{signal}_exporter"
    for entry_point in entry_points(group=group, name=name):
        return entry_point
    raise LookupError(f"no installed package has the entry point {name} of {group}")


class _Call:
    """One call of the exporter, with the request that it is about."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.response: ExportResponse | None = None
        self.ended = threading.Event()


class InstalledTransport:
    """Transport to an exporter of an installed package.

    ``SUCCESS`` is an accepted request, all else a retryable one: ``FAILURE``, an exception, a
    package that can't be imported, a call that takes too long.
    """

    def __init__(self, exporter: InstalledExporter) -> None:
        """Load ``exporter`` at the first request: its package may block as well."""
        self._exporter = exporter
        self._instance: Any = None
        self._call: _Call | None = None
        self._closed = False

    def send(self, body: bytes) -> ExportResponse:
        """Export one encoded request; see :meth:`.Transport.send`.

        After a timeout the call goes on, and no other begins before its end. Its late result counts
        if the same request is tried again.
        """
        timeout_s = self._exporter.timeout_s
        deadline = time.monotonic() + timeout_s
        while True:
            call = self._call or self._begin(body)
            call.ended.wait(max(0.0, deadline - time.monotonic()))
            if call.response is None:
                reason = (
                    "closed while exporting" if self._closed else f"no result in {timeout_s:g} s"
                )
                return ExportResponse(ExportResult.RETRYABLE, reason)
            self._call = None
            if call.body == body:
                return call.response

    def close(self) -> None:
        """Shut the exporter down; a request under way becomes ``RETRYABLE``."""
        self._closed = True
        if call := self._call:
            call.ended.set()
        if self._instance is not None:
            thread = threading.Thread(target=self._shut_down, daemon=True)
            thread.start()
            thread.join(_CLOSE_S)

    def _begin(self, body: bytes) -> _Call:
        self._call = call = _Call(body)
        name = f"{self._exporter.channel} call"
        threading.Thread(target=self._run, args=(call,), name=name, daemon=True).start()
        return call

    def _run(self, call: _Call) -> None:
        reason = "its thread ended"
        try:
            reason = self._export(call.body)
        except Exception as error:  # noqa: BLE001  of any package
            reason = f"{type(error).__name__}: {error}"
        finally:
            result = ExportResult.RETRYABLE if reason else ExportResult.ACCEPTED
            call.response = ExportResponse(result, sanitize_reason(reason))
            call.ended.set()

    def _export(self, body: bytes) -> str:
        """Export, and return the reason of a failure; empty for a success."""
        exporter = self._exporter
        if self._instance is None:
            self._instance = find_entry_point(exporter.signal, exporter.name).load()()
        result = self._instance.export(_DECODERS[exporter.signal](body))
        if getattr(result, "name", None) != "SUCCESS":
            return f"export() returned {getattr(result, 'name', result)}"
        # What it has in memory would be lost with the process.
        flush = getattr(self._instance, "force_flush", None)
        if flush and flush(int(exporter.timeout_s * _MS_PER_S)) is False:
            return "force_flush() returned False"
        return ""

    def _shut_down(self) -> None:
        # Of any package, at the end.
        with suppress(Exception):
            self._instance.shutdown()
