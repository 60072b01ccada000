"""An agent with filters and processors, and real kills: what is sent, counted and kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.linux.kill_count import read_kill_count
from otel_oom.pipeline import OomEvents
from tests.testlib.agent import run_agent
from tests.testlib.command import run_otel_oom
from tests.testlib.kernel.kills import kill_in
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.plugins import add_package
from tests.testlib.servers.backend import Backend
from tests.testlib.servers.metrics import MetricsBackend
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

PROCESSORS = {
    "redact": """
from dataclasses import replace

def process(event):
    return replace(event, sentence="redacted")
""",
    "fail": """
def process(event):
    raise KeyError("no such key")
""",
}


@pytest.mark.unregistered("required, and absent")
def test_an_excluded_kill_is_counted_and_stays_in_the_history(tmp_path: Path) -> None:
    """The metric of kills agrees with the kernel's own count, as if there was no filter."""
    for name, module in PROCESSORS.items():
        add_package(tmp_path / "site", name, module, {"otel_oom_processor": "process"})
    backend = Backend()
    metrics = MetricsBackend(others=backend)
    with own_memcg() as excluded, own_memcg() as sent, Receiver(metrics) as receiver:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "OTEL_OOM_EXCLUDE": f"comm=tai*,cgroup={excluded.path};scope=pod",
            "OTEL_OOM_DROP_ATTRIBUTES": "log.record.original,oom.request.*_stack,*.exit.*",
            "OTEL_OOM_PROCESSORS": "fail,redact",
            "PYTHONPATH": str(tmp_path / "site"),
        }
        with run_agent(tmp_path, environ) as agent:
            before = read_kill_count() or 0
            hidden, shown = kill_in(excluded), kill_in(sent)
            killed = (read_kill_count() or 0) - before
            backend.wait_for(1, within_s=60)
            metrics.next()
            queue = json.loads(run_otel_oom("queue", "--json", "--state-dir", agent.state_dir).out)
            page = run_otel_oom("queue", "--state-dir", agent.state_dir).out
            events = run_otel_oom("events", "--state-dir", agent.state_dir).out
            assert agent.stop() == 0
    assert [log.attributes["process.pid"] for log in backend.logs] == [shown]
    assert [span.attributes["process.pid"] for span in backend.spans] == [shown]
    (log,), (span,) = backend.logs, backend.spans
    assert log.item.body.string_value == span.item.status.message == "redacted"
    dropped = {"log.record.original", "oom.request.kernel_stack", "oom.request.user_stack"}
    assert not dropped & (log.attributes.keys() | span.attributes.keys())
    names = {each.key for event in span.item.events for each in event.attributes}
    assert not {name for name in names | span.attributes.keys() if ".exit." in name}
    kills = sum(point.value for point in metrics.points("oom.kills"))
    assert kills == killed == 2
    (point,) = (point for point in metrics.points("otel_oom.event.excluded") if point.value)
    assert (point.attributes["otel_oom.processor.name"], point.value) == ("OTEL_OOM_EXCLUDE", 1)
    assert queue["excluded"] == {"OTEL_OOM_EXCLUDE": 1}
    (failed,) = queue["processor_errors"]
    assert (failed["processor"], failed["error_type"]) == ("fail", "KeyError")
    assert failed["count"] >= 2
    assert "Excluded from being sent: 1 (OTEL_OOM_EXCLUDE 1)" in page
    assert "processor fail failed" in page
    (of_hidden,) = (line for line in events.splitlines() if re.search(rf"\b{hidden}\b", line))
    (of_shown,) = (line for line in events.splitlines() if re.search(rf"\b{shown}\b", line))
    assert (of_hidden.split()[-1], of_shown.split()[-1]) == ("excluded", "delivered")


def test_a_program_with_the_library_has_the_same_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    logs, metrics = InMemoryLogRecordExporter(), InMemoryMetricReader()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(logs))
    with own_memcg() as excluded, own_memcg() as sent:
        monkeypatch.setenv("OTEL_OOM_EXCLUDE", f"cgroup={excluded.path}")
        monkeypatch.setenv("OTEL_OOM_DROP_ATTRIBUTES", "oom.victim.memcg.*")
        with OomEvents(
            logger_provider=provider,
            meter_provider=MeterProvider([metrics], shutdown_on_exit=False),
        ):
            kill_in(excluded)
            shown = kill_in(sent)
            wait_until(logs.get_finished_logs, "the log")
    pids = [(each.log_record.attributes or {})["process.pid"] for each in logs.get_finished_logs()]
    assert set(pids) == {shown}
    names = {name for each in logs.get_finished_logs() for name in each.log_record.attributes or {}}
    assert not {name for name in names if name.startswith("oom.victim.memcg.")}
    data = metrics.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert sum(point.value for point in metric.data.data_points) == 2  # type: ignore[union-attr, misc]
