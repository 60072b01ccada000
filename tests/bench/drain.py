"""The drain of a backlog: the real agent, a real Collector, a store filled by an outage."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from otel_oom.config.store import MAX_BYTES
from otel_oom.otlp.encode import encode_log
from otel_oom.store import OutboxEntry, Store, StoreLimits
from tests.bench.measurement import Measurement, read_peak_rss_mb, read_rss_mb
from tests.testlib.agent import run_agent
from tests.testlib.samples.events import KILL, sample_enriched_kill
from tests.testlib.servers import build, web
from tests.testlib.servers.build import BuildError
from tests.testlib.servers.collector import Collector, run_collector
from tests.testlib.wait import wait_until

EVENTS = 100_000
_LIMITS = StoreLimits(max_bytes=1 << 30)
_CHUNK = 500
_LIMIT_S = 300.0
_EVERY_S = 0.02
CONFIG: Mapping[str, object] = {
    "receivers": {"otlp": {"protocols": {"http": {"endpoint": "${env:OTLP_HTTP_LISTEN}"}}}},
    "exporters": {"debug": {"verbosity": "basic"}},
    "service": {
        "pipelines": {
            signal: {"receivers": ["otlp"], "exporters": ["debug"]} for signal in ("logs", "traces")
        }
    },
}
_ACCEPTED = re.compile(r"(?m)^otelcol_receiver_accepted_log_records\S*\{.*\} (\S+)$")


def measure_drain() -> Iterator[Measurement]:
    """Measure from the agent's start until the Collector has accepted the whole backlog."""
    try:
        binary = build.build_binary("collector")
    except BuildError as error:
        sys.stderr.write(f"Skipped the drain of a backlog, which needs a Collector: {error}\n")
        return
    # Not /tmp, which may be in memory instead of on a disk.
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        run_collector(binary, CONFIG) as server,
    ):
        _fill(Path(folder) / "state")
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": server.http, MAX_BYTES: str(_LIMITS.max_bytes)}
        with run_agent(Path(folder), environ) as running:
            began = time.monotonic()
            wait_until(
                lambda: read_accepted(server) >= EVENTS / 10,
                "some arrive",
                limit=_LIMIT_S,
                every=_EVERY_S,
            )
            early = read_rss_mb(running)
            wait_until(
                lambda: read_accepted(server) >= EVENTS,
                "all arrive",
                limit=_LIMIT_S,
                every=_EVERY_S,
            )
            took = time.monotonic() - began
            peak = read_peak_rss_mb(running)
    yield Measurement(f"backlog of {EVENTS} events to a Collector", EVENTS / took, "1/s", 10_000)
    yield Measurement("RSS with a tenth of it sent", early, "MB")
    yield Measurement("peak RSS while draining", peak, "MB", 32)


def _fill(state: Path) -> None:
    """Queue the log of one kill under EVENTS uids."""
    log, uid = encode_log(sample_enriched_kill()), KILL.uid.encode()
    uids = [f"{number:0{len(uid)}}" for number in range(EVENTS)]
    with Store(state, _LIMITS) as store:
        for start in range(0, EVENTS, _CHUNK):
            store.enqueue(
                [
                    OutboxEntry(0, name, log.replace(uid, name.encode()), None)
                    for name in uids[start : start + _CHUNK]
                ]
            )


def read_accepted(server: Collector) -> float:
    """Return the number of log records that a Collector has accepted."""
    page = web.http_get(server.metrics).body.decode()
    return sum(float(value) for value in _ACCEPTED.findall(page))
