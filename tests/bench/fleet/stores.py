"""Two gateways in front of a VictoriaLogs and a Prometheus, and what they use and have."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from tests.testlib.process import ServerProcess
from tests.testlib.servers.build import build_binary
from tests.testlib.servers.collector import Collector, Config, run_collector
from tests.testlib.servers.gateways import Gateways
from tests.testlib.servers.prometheus import Prometheus, run_prometheus
from tests.testlib.servers.victorialogs import VictoriaLogs, run_victorialogs
from tests.testlib.servers.web import http_get, http_post
from tests.testlib.wait import wait_until

_STREAM: Final = "service.name,service.namespace,k8s.cluster.name,k8s.namespace.name,host.name"
"""That of collector-config/victorialogs.yaml."""
_SPANS: Final[Config] = {
    "receivers": {"otlp": {"protocols": {"http": {"endpoint": "${env:OTLP_HTTP_LISTEN}"}}}},
    "exporters": {"debug": {"verbosity": "basic"}},
    "service": {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["debug"]}}},
}
"""In place of a store of traces."""
_PROMETHEUS: Final = {"storage": {"tsdb": {"out_of_order_time_window": "30m"}}}
"""As its documentation advises for OTLP: exports of a host may overtake each other."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_LIMIT_S: Final = 300.0
_STABLE_S: Final = 3.0
_STORED: Final = re.compile(r'(?m)^vl_storage_rows\{type="storage/(\w+)"\} (\d+)$')
_SERIES: Final = re.compile(r"(?m)^prometheus_tsdb_head_series (\S+)$")


@dataclass(frozen=True)
class Rows:
    """Log events of kills in VictoriaLogs: all, and those that are left without duplicates."""

    rows: int
    uids: int


@dataclass(frozen=True)
class Stores:
    """Running stores, and the gateways in front of them, which are not running yet."""

    gateways: Gateways
    victorialogs: VictoriaLogs
    prometheus: Prometheus

    def count_kills(self) -> Rows:
        """Count the log events of kills, and their uids."""
        query = (
            'event_name:="oom.kill" "log.record.uid":*'
            ' | stats count() rows, count_uniq("log.record.uid") uids'
        )
        url = f"{self.victorialogs.url}/select/logsql/query"
        row = json.loads(http_get(url, {"query": query}, timeout=60).body)
        return Rows(int(row["rows"]), int(row["uids"]))

    def wait_for_kills(self, uids: int) -> Rows:
        """Wait until as many kills have come, and for a short time for duplicates of them."""
        wait_until(
            lambda: self.count_kills().uids >= uids, f"{uids} kills", limit=_LIMIT_S, every=1.0
        )
        time.sleep(_STABLE_S)
        return self.count_kills()

    def count_log_bytes(self) -> int:
        """Return the size of VictoriaLogs' files, once they are merged."""
        return _count_bytes(self.victorialogs, self._count_rows())

    def count_log_bytes_without_host(self) -> int:
        """Return the size of another VictoriaLogs with the same, in streams of all hosts."""
        query = {"query": "* | delete _stream, _stream_id"}
        rows = http_get(f"{self.victorialogs.url}/select/logsql/query", query, timeout=_LIMIT_S)
        stream = _STREAM.removesuffix(",host.name")
        with run_victorialogs(build_binary("victorialogs")) as other:
            url = f"{other.url}/insert/jsonline?_stream_fields={stream}"
            reply = http_post(url, rows.body, timeout=_LIMIT_S)
            assert reply.status == HTTPStatus.OK, reply.body[:500]
            return _count_bytes(other, self._count_rows())

    def _count_rows(self) -> int:
        return sum(_count_stored(self.victorialogs).values())

    def count_series(self) -> int:
        """Return the number of series in Prometheus."""
        page = http_get(f"{self.prometheus.url}/metrics", timeout=60).body.decode()
        match = _SERIES.search(page)
        return int(float(match[1])) if match else 0

    def wait_for_hosts(self, hosts: int) -> None:
        """Wait until Prometheus has metrics of as many hosts."""
        wait_until(
            lambda: (
                [int(each.value) for each in self.prometheus.query("count(target_info)")] == [hosts]
            ),
            f"metrics of {hosts} hosts",
            limit=_LIMIT_S,
            every=1.0,
        )


@contextmanager
def run_stores(folder: Path) -> Iterator[Stores]:
    """Run the stores, empty."""
    collector = build_binary("collector")
    with (
        run_victorialogs(build_binary("victorialogs")) as victorialogs,
        run_prometheus(build_binary("prometheus"), _PROMETHEUS) as prometheus,
        run_collector(collector, _SPANS) as spans,
    ):
        exporter = {
            "logs_endpoint": f"{victorialogs.url}/insert/opentelemetry/v1/logs",
            "metrics_endpoint": f"{prometheus.otlp}/v1/metrics",
            "traces_endpoint": f"{spans.http}/v1/traces",
            "headers": {"VL-Stream-Fields": _STREAM},
        }
        overlay: Config = {"exporters": {"otlp_http": exporter}}
        yield Stores(Gateways(collector, folder, overlay), victorialogs, prometheus)


def read_cpu_s(*servers: Collector) -> float:
    """Return the CPU time of Collectors so far."""
    return sum(int(ticks) / _TICKS for each in servers for ticks in _read_stat(each.process)[11:13])


def read_peak_mb(process: ServerProcess) -> float:
    """Return the largest RSS of a server so far, in units of 10^6 bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return kb * 1024 / 1e6


def _count_bytes(victorialogs: VictoriaLogs, rows: int) -> int:
    """Return the size of the files, once all rows are in them, merged."""
    http_post(f"{victorialogs.url}/internal/force_flush", b"", timeout=_LIMIT_S)
    wait_until(
        lambda: _count_in_files(victorialogs) == rows,
        f"{rows} rows in files",
        limit=_LIMIT_S,
        every=1.0,
    )
    http_post(f"{victorialogs.url}/internal/force_merge", b"", timeout=_LIMIT_S)
    size = -1
    while size != (size := _folder_size(victorialogs.process.folder / "data")):
        time.sleep(_STABLE_S)
    return size


def _count_in_files(victorialogs: VictoriaLogs) -> int:
    return sum(count for kind, count in _count_stored(victorialogs).items() if kind != "inmemory")


def _count_stored(victorialogs: VictoriaLogs) -> dict[str, int]:
    """Return the number of rows by kind of part: in memory, small, big."""
    page = http_get(f"{victorialogs.url}/metrics", timeout=60).body.decode()
    return {kind: int(count) for kind, count in _STORED.findall(page)}


def _read_stat(process: ServerProcess) -> list[str]:
    stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()


def _folder_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
