"""The agent's own health, with real kills: its metrics, its watchdog, its memory."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_oom.capture.userspace.daemons import installed_daemons
from otel_oom.capture.userspace.source import JournalSource
from otel_oom.commands.demo.receiver import Receiver, Reply
from tests.testlib.agent import Agent, run_agent
from tests.testlib.kernel.kills import kill_many, kill_one
from tests.testlib.kernel.oracle import read_oom_kill_count
from tests.testlib.process import free_port
from tests.testlib.require import require
from tests.testlib.servers.backend import Backend
from tests.testlib.servers.metrics import MetricsBackend
from tests.testlib.servers.web import http_get, is_ok
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

NOBODY = 65534
BEATS = {"WATCHDOG_USEC": "1000000"}
"""A heartbeat every half second."""
UNNEEDED = {
    *("google.protobuf.internal.python_message", "google.protobuf.text_format"),
    *("importlib.metadata", "rich", "shutil", "ssl"),
}
"""Modules that take memory of an agent with the default settings and an endpoint of http."""


def frequent_metrics(receiver: Receiver) -> dict[str, str]:
    """Return the environment that sends to ``receiver``, metrics several times a second."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_METRIC_EXPORT_INTERVAL": "200"}


def test_every_stage_counts_what_the_kernel_counts(tmp_path: Path) -> None:
    """Captured, stored, sent and the sum for alerts all rise by the kernel's own count."""
    backend, counted = Backend(), read_oom_kill_count()
    metrics = MetricsBackend(backend)
    with Receiver(metrics) as receiver, run_agent(tmp_path, frequent_metrics(receiver)):
        pids = kill_many(5)
        backend.wait_for(5, within_s=30)
        wait_until(lambda: len(backend.ends) >= 5, "the ends arrive", limit=30)
        killed = read_oom_kill_count() - counted
        metrics.next()
    assert killed == len(pids)
    assert metrics.value("otel_oom.event.captured", otel_oom_event_kind="kill") == killed
    assert metrics.value("otel_oom.event.stored", otel_oom_event_kind="kill") == killed
    # Of each kill one log event, and one of its end.
    for name in ("log.created", "exporter.log.exported", "processor.log.processed"):
        assert metrics.value(f"otel.sdk.{name}") == 2 * killed, name
    for name in ("exporter.span.exported", "processor.span.processed"):
        assert metrics.value(f"otel.sdk.{name}") == killed, name
    assert metrics.value("otel.sdk.exporter.log.inflight") == 0
    assert metrics.value("otel.sdk.exporter.operation.duration") >= 2
    assert metrics.value("oom.kills", oom_outcome="killed") == metrics.value("oom.kills") == killed
    assert metrics.value("otel_oom.event.lost") == 0
    assert metrics.value("otel.sdk.processor.log.queue.size") == 0
    assert metrics.value("otel_oom.delivery.duration", otel_oom_signal="logs") == killed
    (usage,) = metrics.points("otel_oom.ring_buffer.usage", 0)
    (limit,) = metrics.points("otel_oom.ring_buffer.limit")
    assert 0 <= usage.value < limit.value == 1 << 20
    fullest = max(
        metrics.points("otel_oom.ring_buffer.usage", n)[0].value
        for n in range(len(metrics.requests))
    )
    assert fullest > 0, "no record was observed in the kernel's buffer"


def test_the_count_of_kills_survives_sigkill(tmp_path: Path) -> None:
    """Three runs, two ended by SIGKILL: one sum with one start, each kill in it once."""
    metrics = MetricsBackend(backend := Backend())
    with Receiver(metrics) as receiver:
        for life in (1, 2):
            with run_agent(tmp_path, frequent_metrics(receiver)) as running:
                kill_one()
                backend.wait_for(life, within_s=30)
                metrics.next()
                running.stop(signal.SIGKILL)
        with run_agent(tmp_path, frequent_metrics(receiver)):
            metrics.next()
    totals = [
        sum(point.value for point in metrics.points("oom.kills", n))
        for n in range(len(metrics.requests))
    ]
    assert totals == sorted(totals), "the total fell"
    assert totals[-1] == 2
    starts = {
        point.start_unix_ns
        for n in range(len(metrics.requests))
        for point in metrics.points("oom.kills", n)
    }
    assert len(starts) == 1


def test_prometheus_scrapes_a_kill_with_its_owner(tmp_path: Path) -> None:
    """And finds the agent alive and ready, though no backend is there."""
    port = free_port()
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_METRICS_EXPORTER": "otlp,prometheus",
        "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    with run_agent(tmp_path, environ):
        started = time.time()
        kill_one()
        wait_until(lambda: is_ok(f"{url}/readyz"), "it is ready", limit=30)

        def find(name: str) -> re.Match[str] | None:
            page = http_get(f"{url}/metrics").body.decode()
            return re.search(rf'(?m)^{name}\{{.*service_name="tail"\}} (\S+)$', page)

        kills = wait_until(lambda: find("oom_kills_total"), "the kill counts", limit=30)
        last = find("oom_last_kill_time_seconds")
        assert is_ok(f"{url}/healthz")
    assert kills
    assert float(kills[1]) == 1
    assert last
    assert started - 1 < float(last[1]) < time.time()


def test_metrics_of_queue_and_rejections(tmp_path: Path) -> None:
    """While the backend is away the age of the queue grows; its later rejections are counted."""
    replies = [Reply(503)]
    backend = Backend(lambda: replies[0])
    metrics = MetricsBackend(backend)
    with Receiver(metrics) as receiver, run_agent(tmp_path, frequent_metrics(receiver)) as running:
        kill_one()
        wait_until(lambda: "retrying in" in running.log_text(), "the agent tries again")
        metrics.next()
        wait_until(
            lambda: metrics.value("otel.sdk.processor.log.queue.size") == 2, "kill and end wait"
        )
        assert metrics.value("otel.sdk.processor.log.queue.capacity") > 1000
        assert metrics.value("otel.sdk.exporter.operation.duration", error_type="503") >= 1
        assert metrics.value("otel_oom.queue.age", otel_oom_signal="logs") > 0
        assert metrics.value("otel.sdk.exporter.log.exported") == 0
        replies[0] = Reply(400)
        wait_until(
            lambda: running.log_text().count("dead letters") == 3, "all are rejected", limit=60
        )
        metrics.next()
    assert metrics.value("otel.sdk.exporter.log.exported", error_type="400") == 2
    assert metrics.value("otel_oom.dead_letters", otel_oom_signal="traces") == 1
    assert metrics.value("otel.sdk.processor.log.queue.size") == 0


def test_metrics_of_the_process_are_those_of_proc(tmp_path: Path) -> None:
    """Memory, threads, files, CPU time and age of the agent, as its files in /proc have them."""
    metrics = MetricsBackend()
    with Receiver(metrics) as receiver, run_agent(tmp_path, frequent_metrics(receiver)) as running:
        metrics.next()
        proc = Path(f"/proc/{running.process.pid}")
        status = dict(re.findall(r"(?m)^(\w+):\s+(\d+)", (proc / "status").read_text("utf-8")))
        files = len(list((proc / "fd").iterdir()))
        fields = (proc / "stat").read_text("utf-8").rpartition(")")[2].split()
        uptime_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf(
            "SC_CLK_TCK"
        )
    resident, virtual = (
        metrics.value(f"process.memory.{kind}") / 1024 for kind in ("usage", "virtual")
    )
    assert resident == pytest.approx(int(status["VmRSS"]), rel=0.1)
    assert virtual == pytest.approx(int(status["VmSize"]), rel=0.1)
    assert metrics.value("process.thread.count") == pytest.approx(int(status["Threads"]), abs=3)
    assert metrics.value("process.unix.file_descriptor.count") == pytest.approx(files, abs=6)
    assert metrics.value("process.uptime") == pytest.approx(uptime_s, abs=30)
    ticks = int(fields[11]) + int(fields[12])
    cpu_s = metrics.value("process.cpu.time", cpu_mode="user") + metrics.value(
        "process.cpu.time", cpu_mode="system"
    )
    assert cpu_s == pytest.approx(ticks / os.sysconf("SC_CLK_TCK"), rel=0.5)
    assert metrics.value("process.disk.io", disk_io_direction="write") > 0


def test_rejected_metrics_do_not_affect_kills(tmp_path: Path) -> None:
    """The log says once how to turn metrics off."""
    metrics = MetricsBackend(backend := Backend(), lambda: Reply(404))
    with Receiver(metrics) as receiver, run_agent(tmp_path, frequent_metrics(receiver)) as running:
        wait_until(lambda: "OTEL_METRICS_EXPORTER=none" in running.log_text(), "it is said")
        kill_one()
        backend.wait_for(1, within_s=30)
        time.sleep(1)
        assert running.log_text().count("OTEL_METRICS_EXPORTER=none") == 1
        assert running.stop() == 0
    assert "Traceback" not in running.log_text()


def sends_keep_alive(running: Agent, within_s: float) -> bool:
    """Return true if a keep-alive arrives that was sent from now on."""
    running.manager.settimeout(0)
    try:
        while True:
            running.manager.recv(4096)
    except BlockingIOError:
        pass
    running.manager.settimeout(within_s)
    try:
        return running.manager.recv(4096) == b"WATCHDOG=1"
    except TimeoutError:
        return False


def test_an_unreachable_backend_does_not_trip_the_watchdog(tmp_path: Path) -> None:
    """A restart would not help."""
    nobody = f"http://127.0.0.1:{free_port()}"
    environ = {**BEATS, "OTEL_EXPORTER_OTLP_ENDPOINT": nobody}
    with run_agent(tmp_path, environ) as running:
        kill_one()
        wait_until(lambda: "retrying in" in running.log_text(), "the agent tries again")
        for _ in range(4):
            assert sends_keep_alive(running, within_s=10)


def test_a_stopped_process_sends_no_keep_alive(tmp_path: Path) -> None:
    """It sends again once it is continued."""
    with run_agent(tmp_path, BEATS) as running:
        assert sends_keep_alive(running, within_s=10)
        running.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: _state(running) == "T", "the agent stops")
        assert not sends_keep_alive(running, within_s=3)
        running.process.send_signal(signal.SIGCONT)
        assert sends_keep_alive(running, within_s=10)


def _state(running: Agent) -> str:
    stat = Path(f"/proc/{running.process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0]


def test_a_watchdog_for_another_process_gets_nothing(tmp_path: Path) -> None:
    """WATCHDOG_PID names the process (sd_watchdog_enabled(3))."""
    with run_agent(tmp_path, {**BEATS, "WATCHDOG_PID": str(os.getpid())}) as running:
        assert not sends_keep_alive(running, within_s=2)


@contextmanager
def file_system(folder: Path) -> Iterator[Path]:
    """Create a file system that can be frozen."""
    for tool in ("mkfs.ext4", "fsfreeze", "mount"):
        require(shutil.which(tool), f"{tool} is not installed")
    image, mounted = folder / "image", folder / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    made = subprocess.run(["mount", "-o", "loop", image, mounted], check=False, capture_output=True)
    require(made.returncode == 0, "no file system can be mounted from a file here")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_hanging_disk_trips_the_watchdog(tmp_path: Path) -> None:
    """Once it works again, keep-alives and delivery go on."""
    backend = Backend()
    with (
        file_system(tmp_path) as mounted,
        Receiver(backend) as receiver,
        run_agent(
            tmp_path,
            {**BEATS, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url},
            "--state-dir",
            str(mounted / "state"),
        ) as running,
    ):
        assert sends_keep_alive(running, within_s=10)
        subprocess.run(["fsfreeze", "--freeze", mounted], check=True)
        try:
            kill_one()
            # What was due before the kill came may still be sent.
            sends_keep_alive(running, within_s=1)
            assert not sends_keep_alive(running, within_s=3)
        finally:
            subprocess.run(["fsfreeze", "--unfreeze", mounted], check=True)
        assert sends_keep_alive(running, within_s=10)
        backend.wait_for(1, within_s=30)
        running.stop()


def test_it_lowers_its_oom_score_adj_or_logs_why_not(tmp_path: Path) -> None:
    """To -999; the log says what to do."""
    with run_agent(tmp_path, {}) as running:
        wait_until(lambda: _locked_kb(running) > 0, "it has done all that it can", limit=30)
        found = Path(f"/proc/{running.process.pid}/oom_score_adj").read_text(encoding="ascii")
        said = "Cannot lower oom_score_adj" in running.log_text()
    assert (int(found) == -999) is not said


def test_its_memory_is_locked(tmp_path: Path) -> None:
    """Text and data: under pressure a kill reads no page from the disk."""
    with run_agent(tmp_path, {}) as running:
        wait_until(lambda: _locked_kb(running) > 0, "memory is locked", limit=30)
        # Device memory, such as the kernel's buffer, is neither counted nor locked.
        assert _locked_kb(running) > _smaps_kb(running, "Rss") / 2


def _locked_kb(running: Agent) -> int:
    return _smaps_kb(running, "Locked")


def _smaps_kb(running: Agent, field: str) -> int:
    text = Path(f"/proc/{running.process.pid}/smaps_rollup").read_text(encoding="ascii")
    (number,) = re.findall(rf"(?m)^{field}:\s+(\d+) kB", text)
    return int(number)


def test_the_path_of_a_kill_imports_nothing(tmp_path: Path) -> None:
    """All modules are loaded before the first kill: under pressure an import can take seconds.

    What this host does not need is never loaded.
    """
    backend = Backend()
    with Receiver(backend) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "PYTHONVERBOSE": "1"}
        with run_agent(tmp_path, environ) as running:
            wait_until(lambda: _locked_kb(running) > 0, "all is there", limit=60)
            before = running.log_text()
            kill_one()
            backend.wait_for(1, within_s=30)
            meanwhile = running.log_text()[len(before) :]
    assert "OOM kill of" in meanwhile
    assert not _imported(meanwhile)
    assert "otel_oom.export.http" in _imported(before)
    unneeded = UNNEEDED if installed_daemons() else {*UNNEEDED, JournalSource.__module__}
    assert not _imported(before) & unneeded


def _imported(log: str) -> set[str]:
    return set(re.findall(r"(?m)^import '([^']+)'", log))
