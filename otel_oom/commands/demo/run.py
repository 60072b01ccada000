"""The demonstration: start the agent, make a kill, print what the backend received."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_oom.capture.bpf.source import require_prerequisites
from otel_oom.commands.demo import victim
from otel_oom.commands.demo.agent import DemoError, running_agent
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.config.endpoint import Endpoint
from otel_oom.config.file import apply_config_file
from otel_oom.config.otlp import OtlpConfig, read_otlp_config
from otel_oom.config.variable import log_warning
from otel_oom.export.exporter import create_transport
from otel_oom.export.result import ExportResult
from otel_oom.linux.temporary_cgroup import CgroupError, TemporaryCgroup
from otel_oom.otlp import semconv
from otel_oom.otlp.json import to_json_line

_LIMIT_BYTES: Final = 48 << 20
_KILLED_S: Final = 30.0
_DELIVERED_S: Final = 20.0


def run_demo(*, as_json: bool) -> int:
    """Make a kill, print its telemetry and send it on; return the exit code.

    Raises CaptureError if kills can't be captured on this host, and ConfigError.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Ended from outside, it cleans up as well.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    require_prerequisites()
    environ = apply_config_file(os.environ, log_warning)
    backend = read_otlp_config(environ)
    try:
        log, span = _kill_and_receive()
        _print(log, span, as_json=as_json)
        if not backend.disabled:
            _forward(environ, {"logs": log, "traces": span}, backend)
    except (DemoError, CgroupError) as error:
        sys.stderr.write(f"otel-oom: {error}\n")
        return 1
    return 0


def _kill_and_receive() -> tuple[ExportLogsServiceRequest, ExportTraceServiceRequest]:
    requests: queue.Queue[Message] = queue.Queue()
    log: ExportLogsServiceRequest | None = None
    span: ExportTraceServiceRequest | None = None
    with (
        Receiver(requests.put) as receiver,
        tempfile.TemporaryDirectory(prefix="otel-oom-demo-") as folder,
        running_agent(Path(folder), receiver.url),
    ):
        pid = _kill()
        while log is None or span is None:
            try:
                request = requests.get(timeout=_DELIVERED_S)
            except queue.Empty:
                raise DemoError(
                    f"Process {pid} was killed, but its telemetry did not arrive within "
                    f"{_DELIVERED_S:.0f} s; the agent's messages are above."
                ) from None
            if isinstance(request, ExportLogsServiceRequest):
                log = log or _log_of(request, pid)
            elif isinstance(request, ExportTraceServiceRequest):
                span = span or _span_of(request, pid)
    return log, span


def _log_of(request: ExportLogsServiceRequest, pid: int) -> ExportLogsServiceRequest | None:
    """Return the log of one kill: the host may have kills of its own at the same time."""
    for group in request.resource_logs:
        record = group.scope_logs[0].log_records[0]
        if record.event_name == semconv.EVENT_KILL and _has_pid(record.attributes, pid):
            return ExportLogsServiceRequest(resource_logs=[group])
    return None


def _span_of(request: ExportTraceServiceRequest, pid: int) -> ExportTraceServiceRequest | None:
    for group in request.resource_spans:
        if _has_pid(group.scope_spans[0].spans[0].attributes, pid):
            return ExportTraceServiceRequest(resource_spans=[group])
    return None


def _has_pid(attributes: Iterable[KeyValue], pid: int) -> bool:
    return any(one.key == "process.pid" and one.value.int_value == pid for one in attributes)


def _kill() -> int:
    """Have the kernel kill a process that exceeds the limit of its cgroup; return its pid."""
    with TemporaryCgroup(f"otel-oom-demo-{os.getpid()}", _LIMIT_BYTES) as memcg:
        command = (sys.executable, victim.__file__, memcg.procs, str(_LIMIT_BYTES))
        process = subprocess.Popen(command)
        try:
            code = process.wait(_KILLED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    if code != -signal.SIGKILL:
        raise DemoError(
            f"The kernel did not kill the process that used more than {_LIMIT_BYTES >> 20} MiB "
            f"(exit code {code}). Is the memory controller on?"
        )
    return process.pid


def _print(
    log: ExportLogsServiceRequest, span: ExportTraceServiceRequest, *, as_json: bool
) -> None:
    if as_json:
        sys.stdout.write(f"{to_json_line(log)}\n{to_json_line(span)}\n")
    else:
        from otel_oom.commands.console.output import print_page  # noqa: PLC0415  not for --json
        from otel_oom.commands.demo.show import render_telemetry  # noqa: PLC0415  likewise

        print_page(render_telemetry(log, span))
    sys.stdout.flush()


def _forward(
    environ: Mapping[str, str], requests: Mapping[str, Message], backend: OtlpConfig
) -> None:
    for endpoint in backend.endpoints:
        if not _is_configured(environ, endpoint):
            continue
        transport = create_transport(endpoint)
        response = transport.send(requests[endpoint.signal].SerializeToString())
        transport.close()
        if response.result is not ExportResult.ACCEPTED or response.rejected:
            raise DemoError(
                f"{endpoint.redacted_url} did not accept the {endpoint.signal}: {response.reason}"
            )
        sys.stderr.write(f"Sent to {endpoint.redacted_url}\n")


def _is_configured(environ: Mapping[str, str], endpoint: Endpoint) -> bool:
    """Return whether the environment names the endpoint: a default address gets nothing."""
    scopes = ("", f"{endpoint.signal.upper()}_")
    return any(environ.get(f"OTEL_EXPORTER_OTLP_{scope}ENDPOINT") for scope in scopes)
