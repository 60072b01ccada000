"""A process that is killed in the middle of an enrichment, by the row that it enriches."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.linux import clock
from otel_oom.model.types import UserFrame
from otel_oom.store import Store
from tests.testlib.samples.events import KILL, SNAPSHOT

pytestmark = pytest.mark.slow

HOSTILE = replace(
    KILL, boot_id=clock.boot_id(), user_stack=(UserFrame("00" * 20, 7),), original="report"
)
QUIET = replace(
    HOSTILE, boottime_ns=7, victim=replace(KILL.victim, tgid=7), user_stack=(), original=None
)

DELIVERY = """
import signal, sys
from otel_oom.agent.delivery import DeliveryPipeline
from otel_oom.agent import encoder
from otel_oom.agent.stats import Stats
from otel_oom.config.agent import AgentConfig
from otel_oom.config.otlp import read_otlp_config
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.linux.containers.service import ContainerService
from otel_oom.store import Store
from pathlib import Path

def die(*_):
    # To this thread: one to the process may reach another thread first, and this one goes on.
    signal.raise_signal(getattr(signal, sys.argv[3]))

if sys.argv[2] == "symbolize":
    UserSymbolizer.symbolize = die
else:
    encode_log = encoder.encode_event_log
    encoder.encode_event_log = lambda event, limits: (
        die() if "log.record.original" in event.attributes else encode_log(event, limits)
    )
with Store(Path(sys.argv[1])) as store:
    config = AgentConfig(read_otlp_config({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}))
    delivery = DeliveryPipeline(store, config, Stats(), ContainerService())
    delivery.start()
    delivery.stop(30)
"""
"""The real delivery. Its enrichment of a user stack, or its encoding of a report, is fatal."""


def run_delivery(state_dir: Path, fatal_step: str, death: str) -> tuple[int, str]:
    """Run it once, and return its exit code and its log."""
    done = subprocess.run(
        [sys.executable, "-c", DELIVERY, state_dir, fatal_step, death],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def queued_uids(state_dir: Path) -> set[str]:
    with Store(state_dir) as store:
        return {message.uid for message in store.next_batch("logs", 10, 1 << 20)}


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    with Store(tmp_path) as store:
        for kill in (HOSTILE, QUIET):
            store.insert(kill, SNAPSHOT)
    return tmp_path


@pytest.mark.parametrize("death", ["SIGKILL", "SIGABRT"])
def test_the_next_start_sends_the_event_without_enrichment(state_dir: Path, death: str) -> None:
    code, _ = run_delivery(state_dir, "symbolize", death)
    assert code == -getattr(signal, death)
    assert not queued_uids(state_dir)
    code, log = run_delivery(state_dir, "symbolize", death)
    assert (code, log.count("is sent without enrichment")) == (0, 1)
    assert queued_uids(state_dir) == {HOSTILE.uid, QUIET.uid}


def test_an_event_that_is_fatal_all_the_same_is_quarantined(state_dir: Path) -> None:
    for _ in range(6):
        code, _ = run_delivery(state_dir, "encode", "SIGKILL")
        assert code == -signal.SIGKILL
    code, log = run_delivery(state_dir, "encode", "SIGKILL")
    assert (code, "the agent ended 6 times in its encoding" in log) == (0, True)
    assert queued_uids(state_dir) == {QUIET.uid}
