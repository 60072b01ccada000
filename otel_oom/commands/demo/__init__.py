"""One real OOM kill, from the kernel to OTLP and back on screen, with no backend needed.

The agent is the real one, in a process of its own; the kill is real, in a memory cgroup that is
made for it; the backend is a receiver on the loopback interface. What it received goes on to the
user's own backend when the environment names one.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.capture.bpf.source import require_prerequisites
from otel_oom.commands.demo import show, victim
from otel_oom.commands.demo.receiver import Receiver, Reply
from otel_oom.config.endpoint import Endpoint
from otel_oom.config.otlp import SIGNALS, OtlpConfig, read_otlp_config
from otel_oom.export.exporter import create_transport
from otel_oom.export.result import ExportResult
from otel_oom.linux.temporary_cgroup import MemcgError, OwnMemcg
from otel_oom.otlp.json import to_json_line

_LIMIT: Final = 48 << 20
_READY_S: Final = 20.0
_READY_STEP_S: Final = 0.1
_KILLED_S: Final = 30.0
_DELIVERED_S: Final = 20.0
_STOP_S: Final = 10.0


class DemoError(Exception):
    """The demonstration failed; the message says where, and what to look at."""


def demo(*, as_json: bool) -> int:
    """Run it, and return its exit code.

    Raises:
        CaptureError: kills can't be captured on this host.
        ConfigError: a variable is invalid.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Ended from outside, it cleans up as well.
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    require_prerequisites()
    backend = read_otlp_config(os.environ)
    try:
        received = _kill_and_receive()
        _print(received, as_json=as_json)
        if not backend.disabled:
            _forward(received, backend)
    except (DemoError, MemcgError) as error:
        sys.stderr.write(f"otel-oom: {error}\n")
        return 1
    return 0


def _is_named(endpoint: Endpoint) -> bool:
    """Whether the environment names it: nothing goes to a default address unasked."""
    scopes = ("", f"{endpoint.signal.upper()}_")
    return any(os.environ.get(f"OTEL_EXPORTER_OTLP_{scope}ENDPOINT") for scope in scopes)


def _kill_and_receive() -> list[Message]:
    """The kill as a backend received it: a request with its log, and one with its span."""
    requests: queue.Queue[Message] = queue.Queue()

    def keep(request: Message) -> Reply | None:
        for single in _singles(request):
            requests.put(single)
        return None

    with (
        Receiver(keep) as receiver,
        tempfile.TemporaryDirectory(prefix="otel-oom-demo-") as folder,
        _agent(Path(folder), receiver.url),
    ):
        pid = _kill()
        found: dict[type[Message], Message] = {}
        while len(found) < len(SIGNALS):
            try:
                request = requests.get(timeout=_DELIVERED_S)
            except queue.Empty:
                raise DemoError(
                    f"Process {pid} was killed, but its telemetry did not arrive within "
                    f"{_DELIVERED_S:.0f} s; the agent's messages are above."
                ) from None
            # The host may have kills of its own at the same time.
            if _pid_of(request) == pid:
                found.setdefault(type(request), request)
    return [found[ExportLogsServiceRequest], found[ExportTraceServiceRequest]]


def _singles(request: Message) -> Iterator[Message]:
    """Each kill of a request as a request of its own; the agent gives each its own resource."""
    if isinstance(request, ExportLogsServiceRequest):
        for logs in request.resource_logs:
            yield ExportLogsServiceRequest(resource_logs=[logs])
    elif isinstance(request, ExportTraceServiceRequest):
        for spans in request.resource_spans:
            yield ExportTraceServiceRequest(resource_spans=[spans])


def _pid_of(single: Message) -> int | None:
    items: Iterable[LogRecord | Span] = ()
    if isinstance(single, ExportLogsServiceRequest):
        items = single.resource_logs[0].scope_logs[0].log_records
    elif isinstance(single, ExportTraceServiceRequest):
        items = single.resource_spans[0].scope_spans[0].spans
    attributes = (attribute for item in items for attribute in item.attributes)
    return next((a.value.int_value for a in attributes if a.key == "process.pid"), None)


@contextmanager
def _agent(folder: Path, endpoint: str) -> Iterator[None]:
    """The agent as a process of its own that is ready to capture and sends to ``endpoint``."""
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(str(folder / "notify"))
    ready.settimeout(_READY_STEP_S)
    environ = _plain_environment() | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "NOTIFY_SOCKET": str(folder / "notify"),
        # The host's proxy, if it has one, does not lead to our own receiver.
        "no_proxy": "*",
    }
    agent = subprocess.Popen(
        # The log would do, but what is demonstrated is the whole of it.
        [
            sys.executable,
            "-m",
            "otel_oom",
            "run",
            "--source",
            "libbpf",
            "--no-pin",
            "--state-dir",
            folder / "state",
        ],
        env=environ,
    )
    with ready:
        try:
            _await_ready(agent, ready)
            yield
        finally:
            agent.send_signal(signal.SIGTERM)
            try:
                agent.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()


def _await_ready(agent: subprocess.Popen[bytes], ready: socket.socket) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        with suppress(TimeoutError):
            if b"READY=1" in ready.recv(4096):
                return
        if agent.poll() is not None:
            raise DemoError(
                f"The agent ended with exit code {agent.returncode} before it was ready; "
                "its messages are above."
            )
    raise DemoError(
        f"The agent was not ready within {_READY_S:.0f} s; its messages are above, if any."
    )


def _plain_environment() -> dict[str, str]:
    """The caller's environment without what says where to send, and whether to."""
    meant_for_others = ("OTEL_EXPORTER_OTLP_", "OTEL_SDK_DISABLED")
    return {k: v for k, v in os.environ.items() if not k.startswith(meant_for_others)}


def _kill() -> int:
    """Have the kernel kill a process for want of memory; its pid."""
    with OwnMemcg(f"otel-oom-demo-{os.getpid()}", _LIMIT) as memcg:
        process = subprocess.Popen([sys.executable, victim.__file__, memcg.procs, str(_LIMIT)])
        try:
            code = process.wait(_KILLED_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    if code != -signal.SIGKILL:
        raise DemoError(
            f"The kernel did not kill the process that took more than {_LIMIT >> 20} MiB "
            f"(it ended with {code}). Is the memory controller on?"
        )
    return process.pid


def _print(received: list[Message], *, as_json: bool) -> None:
    for request in received:
        if as_json:
            lines = [to_json_line(request)]
        elif isinstance(request, ExportLogsServiceRequest):
            lines = ["", *show.log_lines(request)]
        elif isinstance(request, ExportTraceServiceRequest):
            lines = ["", *show.span_lines(request), ""]
        sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _forward(received: list[Message], backend: OtlpConfig) -> None:
    """Send what was received on to the user's own backend, once.

    Raises:
        DemoError: it did not take it.
    """
    for request, endpoint in zip(received, backend.endpoints, strict=True):
        if not _is_named(endpoint):
            continue
        transport = create_transport(endpoint)
        answer = transport.send(request.SerializeToString())
        transport.close()
        if answer.result is not ExportResult.ACCEPTED or answer.rejected:
            raise DemoError(
                f"{endpoint.redacted_url} did not take the {endpoint.signal}: {answer.reason}"
            )
        sys.stderr.write(f"Sent to {endpoint.redacted_url}\n")
