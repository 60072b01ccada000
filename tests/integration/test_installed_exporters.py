"""Exporters of installed packages, fed from the outbox beside OTLP."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent.stats import Stats
from otel_oom.commands.demo.receiver import Receiver
from otel_oom.config.agent import AgentConfig
from otel_oom.config.exporters import InstalledExporter
from otel_oom.config.otlp import read_otlp_config
from otel_oom.export.installed import InstalledTransport
from otel_oom.export.result import ExportResult
from otel_oom.linux.containers.service import ContainerService
from otel_oom.otlp.encode import encode_log
from otel_oom.store import Store
from tests.testlib.exporter import RequestLog
from tests.testlib.plugins import add_package, add_recorder
from tests.testlib.samples.events import KILL, SNAPSHOT, sample_enriched_kill, sample_kill
from tests.testlib.wait import wait_until

ALL = 1 << 40
LIMIT_S = 60.0
LOGS = InstalledExporter("logs", "recorder", timeout_s=LIMIT_S)
BODY = encode_log(sample_enriched_kill())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an installed recorder, with its files."""
    add_recorder(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("RECORDER_FOLDER", str(tmp_path))
    for name in ("logs", "spans"):
        set_mode(tmp_path, name, "accept")
    yield tmp_path
    for name in ("logs", "spans"):
        set_mode(tmp_path, name, "accept")
    sys.modules.pop("recorder", None)


def set_mode(folder: Path, name: str, mode: str) -> None:
    (folder / f"{name}.new").write_text(mode)
    (folder / f"{name}.new").rename(folder / f"{name}.mode")


def uids_of(folder: Path, name: str) -> list[str]:
    """Return the uids that the exporter has, in the order of their arrival."""
    path = folder / f"{name}.has"
    return path.read_text().split() if path.exists() else []


def tries(folder: Path, name: str) -> list[list[str]]:
    path = folder / f"{name}.tried"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def run_pipeline(store: Store, url: str, **names: str) -> Iterator[DeliveryPipeline]:
    """Deliver by the exporters of ``names``."""
    environ = {f"OTEL_{signal}_EXPORTER": value for signal, value in names.items()}
    config = AgentConfig(read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": url, **environ}))
    delivery = DeliveryPipeline(store, config, Stats(), ContainerService())
    delivery.start()
    try:
        yield delivery
    finally:
        delivery.stop(0.3)


def insert(store: Store, count: int, first: int = 0) -> list[str]:
    kills = [sample_kill(number, boot_id="an earlier boot") for number in range(first, count)]
    for kill in kills:
        store.insert(kill, SNAPSHOT)
    return [kill.uid for kill in kills]


@pytest.mark.slow
def test_it_gets_each_log_and_span_once_beside_otlp(folder: Path) -> None:
    received = RequestLog()
    with Store(folder / "state") as store, Receiver(received) as server:
        uids = insert(store, 20)
        with run_pipeline(store, server.url, LOGS="otlp,recorder", TRACES="recorder"):
            wait_until(lambda: len(uids_of(folder, "spans")) == 20, "spans", limit=LIMIT_S)
            wait_until(lambda: store.stats.row_counts()["outbox"] == 0, "empty", limit=LIMIT_S)
    assert sorted(uids_of(folder, "logs")) == sorted(uids_of(folder, "spans")) == sorted(uids)
    # By their event names; no span went there.
    assert Counter(received.accepted) == {"oom.kill": 20}
    assert (folder / "logs.shutdown").exists()


@pytest.mark.slow
def test_one_that_fails_for_ever_holds_up_no_other_and_repeats_nothing(folder: Path) -> None:
    """Not over a restart either. What it has not had stays in its own channel."""
    received = RequestLog()
    set_mode(folder, "logs", "fail")
    with Receiver(received) as server:
        for first in (0, 5):
            with Store(folder / "state") as store:
                uids = insert(store, first + 5, first)
                expected = first + 5
                with run_pipeline(store, server.url, LOGS="otlp,recorder", TRACES="none"):
                    wait_until(
                        lambda: len(received.accepted) == expected,  # noqa: B023  called at once
                        "OTLP has all",
                        limit=LIMIT_S,
                    )
                    wait_until(lambda: tries(folder, "logs"), "a try", limit=LIMIT_S)
        with Store(folder / "state") as store:
            assert [m.uid for m in store.next_batch("logs:recorder", 99, ALL)][-5:] == uids
            assert store.next_batch("logs", 99, ALL) == []
            set_mode(folder, "logs", "accept")
            with run_pipeline(store, server.url, LOGS="otlp,recorder", TRACES="none"):
                wait_until(lambda: len(uids_of(folder, "logs")) == 10, "all", limit=LIMIT_S)
    assert len(set(uids_of(folder, "logs"))) == 10
    assert len(received.accepted) == 10


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("fail", "export() returned FAILURE"),
        ("raise", "ValueError: no such tenant"),
        ("unflushed", "force_flush() returned False"),
    ],
)
def test_a_failure_is_retried(folder: Path, mode: str, reason: str) -> None:
    transport = InstalledTransport(LOGS)
    set_mode(folder, "logs", mode)
    response = transport.send(BODY)
    assert (response.result, response.reason) == (ExportResult.RETRYABLE, reason)
    set_mode(folder, "logs", "accept")
    assert transport.send(BODY).result is ExportResult.ACCEPTED
    assert uids_of(folder, "logs")[-1] == KILL.uid
    transport.close()


@pytest.mark.slow
def test_a_call_that_hangs_ends_with_the_timeout_and_is_not_repeated(folder: Path) -> None:
    """No second call begins before its end; its late success counts for the same request."""
    transport = InstalledTransport(InstalledExporter("logs", "recorder", timeout_s=0.3))
    set_mode(folder, "logs", "hang")
    for _ in range(2):
        response = transport.send(BODY)
        assert response.result is ExportResult.RETRYABLE
        assert response.reason == "no result in 0.3 s"
    set_mode(folder, "logs", "accept")
    wait_until(lambda: transport.send(BODY).result is ExportResult.ACCEPTED, "its end")
    assert uids_of(folder, "logs") == [KILL.uid]
    assert tries(folder, "logs") == [[KILL.uid]]
    transport.close()


@pytest.mark.slow
def test_after_a_late_result_another_request_is_exported(folder: Path) -> None:
    other = sample_enriched_kill(number=1)
    transport = InstalledTransport(InstalledExporter("logs", "recorder", timeout_s=0.3))
    set_mode(folder, "logs", "hang")
    assert transport.send(BODY).result is ExportResult.RETRYABLE
    set_mode(folder, "logs", "accept")
    wait_until(lambda: transport.send(encode_log(other)).result is ExportResult.ACCEPTED, "its end")
    assert uids_of(folder, "logs") == [KILL.uid, other.event.uid]
    transport.close()


@pytest.mark.slow
def test_one_that_hangs_holds_up_neither_the_others_nor_the_end(folder: Path) -> None:
    """The watchdog stays content: no thread of delivery is stalled."""
    received = RequestLog()
    set_mode(folder, "logs", "hang")
    with Store(folder / "state") as store, Receiver(received) as server:
        insert(store, 3)
        with run_pipeline(store, server.url, LOGS="otlp,recorder", TRACES="recorder") as delivery:
            wait_until(lambda: len(uids_of(folder, "spans")) == 3, "spans", limit=LIMIT_S)
            wait_until(lambda: len(received.accepted) == 3, "OTLP", limit=LIMIT_S)
            assert delivery.health_error is None
            begun = time.monotonic()
        assert time.monotonic() - begun < LIMIT_S
        assert len(store.next_batch("logs:recorder", 99, ALL)) == 3


def test_a_package_that_cannot_be_imported_is_tried_again(folder: Path) -> None:
    """A message waits until it is repaired; nothing else is affected."""
    groups = {"opentelemetry_logs_exporter": "Logs"}
    add_package(folder / "site", "broken", "import nowhere\n", groups)
    transport = InstalledTransport(InstalledExporter("logs", "broken"))
    response = transport.send(BODY)
    assert response.result is ExportResult.RETRYABLE
    assert response.reason == "ModuleNotFoundError: No module named 'nowhere'"
    missing = InstalledTransport(InstalledExporter("logs", "missing")).send(BODY)
    assert missing.result is ExportResult.RETRYABLE
    assert "no installed package has the entry point missing" in missing.reason


def test_a_closed_transport_returns_at_once(folder: Path) -> None:
    transport = InstalledTransport(LOGS)
    set_mode(folder, "logs", "hang")
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(transport.send, BODY)
        wait_until(lambda: tries(folder, "logs"), "the call")
        transport.close()
        assert response.result(LIMIT_S).reason == "closed while exporting"
