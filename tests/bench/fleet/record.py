"""Record what one real agent sends: of a kill by the kernel, and at an interval of its metrics.

    python -m tests.bench.fleet.record

writes recorded.jsonl, a request of OTLP/JSON on each line. It needs root.
"""

from __future__ import annotations

import platform
import re
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.otlp.json import to_json_line
from tests.bench.fleet.recording import RECORDED
from tests.testlib.agent import run_agent
from tests.testlib.kernel.kills import kill_in
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.servers.backend import Backend
from tests.testlib.servers.metrics import MetricsBackend

_LIMIT_BYTES: Final = 64 << 20
_OTHERS: Final = 3
"""Processes beside the victim, which the kernel lists as well."""
_WITHIN_S: Final = 60.0
_HOST_ID: Final = re.compile(
    r'("(?:host|service\.instance)\.id","value":\{"stringValue":")[0-9a-f]+'
)


def main() -> None:
    """Have the kernel kill a process, and write what the agent sends of that."""
    requests: list[Message] = []
    backend = Backend()

    def keep(request: Message) -> None:
        requests.append(request)
        backend(request)

    metrics = MetricsBackend(keep)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        receiver = stack.enter_context(Receiver(metrics))
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        }
        stack.enter_context(run_agent(folder, environ))
        memcg = stack.enter_context(own_memcg(_LIMIT_BYTES))
        others = [
            subprocess.Popen([*cgroup_prefix(memcg), "sleep", "1000"]) for _ in range(_OTHERS)
        ]
        try:
            backend.wait_for_kills([kill_in(memcg)], _WITHIN_S)
            metrics.next()
        finally:
            for each in others:
                each.kill()
                each.wait()
    last: ExportMetricsServiceRequest = metrics.requests[-1]
    lines = [to_json_line(request).rstrip() for request in (*requests, last)]
    RECORDED.write_text(_hide_host("".join(f"{line}\n" for line in lines)), encoding="utf-8")


def _hide_host(text: str) -> str:
    """Replace what names this machine."""
    kernel = platform.release()
    text = text.replace(f'"{platform.node()}"', '"node"').replace(kernel, kernel.partition("-")[0])
    return _HOST_ID.sub(rf"\g<1>{'0' * 32}", text)


if __name__ == "__main__":
    main()
