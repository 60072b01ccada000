"""What is synced with a kill, what may be synced a little later, and that it is."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from otel_oom.linux import clock
from otel_oom.model.snapshot import Snapshot
from otel_oom.store import OutboxEntry, Store
from otel_oom.store.delayed_sync import DELAY_S
from tests.testlib.ingest import ScriptedSource, ingest_loop
from tests.testlib.require import require
from tests.testlib.samples.events import EXIT, KILL, REAPER_STEPS, SNAPSHOT, sample_kill
from tests.testlib.wait import wait_until

BOOT = KILL.boot_id
NAME = "otel-oom.db-wal"
PROGRAM = """
import os, sys, time
from pathlib import Path
from otel_oom.store import OutboxEntry, Store
from tests.testlib.samples.events import EXIT, KILL, REAPER_STEPS, SNAPSHOT, sample_kill
from otel_oom.model.snapshot import Snapshot

out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
with Store(Path(sys.argv[1])) as store:
    def step(name, *arguments):
        getattr(store, name)(*arguments)
        os.write(out, f"done {name}".encode())

    os.write(out, b"done open")
    step("insert", KILL, Snapshot(process_found=False))
    step("complete", KILL, SNAPSHOT)
    step("add_reaper_step", KILL.boot_id, REAPER_STEPS[0])
    step("add_exit", KILL.boot_id, EXIT)
    step("enqueue", [OutboxEntry(1, KILL.uid, b"log", b"span")])
    step("ack", store.next_batch("logs", 1, 1))
    step("add_exit", KILL.boot_id, EXIT)
    time.sleep(0.06)
    store.delayed_sync.sync_if_due()
    os.write(out, b"done sync")
    store.insert(sample_kill(1), SNAPSHOT)
    os.write(out, b"done insert")
    step("complete", sample_kill(1), SNAPSHOT)
    time.sleep(0.06)
    store.delayed_sync.sync_if_due()
    os.write(out, b"done sync")
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store(tmp_path / "state") as opened:
        yield opened


@pytest.mark.slow
def test_a_kill_and_a_response_are_synced_when_they_are_stored(tmp_path: Path) -> None:
    """By the system calls: what is derived, or follows, waits for the next sync."""
    require(shutil.which("strace"), "strace prints the calls")
    state, reported, trace = tmp_path / "state", tmp_path / "reported", tmp_path / "trace"
    command: list[str | Path] = ["strace", "-f", "-y", "-o", trace, "-e", "trace=fdatasync,write"]
    command += ["-P", state / NAME, "-P", reported, sys.executable, "-c", PROGRAM, state, reported]
    done = subprocess.run(command, check=False, cwd=Path.cwd(), capture_output=True, text=True)
    require("ptrace" not in done.stderr.lower(), f"to trace a process: {done.stderr[-200:]}")
    text = trace.read_text(encoding="ascii", errors="replace")
    steps = text[text.index("done open") :].split('"done ')
    syncs = [
        (following.partition('"')[0], f"{NAME}>" in before) for before, following in pairwise(steps)
    ]
    assert syncs == [
        ("insert", True),
        ("complete", False),
        ("add_reaper_step", False),
        ("add_exit", False),
        ("enqueue", False),
        ("ack", True),
        ("add_exit", False),
        ("sync", False),
        ("insert", True),
        ("complete", False),
        ("sync", True),
    ], text


def test_a_sync_of_another_transaction_covers_what_waits(store: Store) -> None:
    store.insert(KILL, Snapshot(process_found=False))
    assert store.delayed_sync.wait_s == math.inf
    store.complete(KILL, SNAPSHOT)
    assert 0 <= store.delayed_sync.wait_s <= DELAY_S
    store.insert(sample_kill(1), SNAPSHOT)
    assert store.delayed_sync.wait_s == math.inf


def test_a_transaction_that_changes_nothing_covers_nothing(store: Store) -> None:
    """SQLite does not sync it."""
    store.insert(KILL, SNAPSHOT)
    store.add_exit(BOOT, EXIT)
    assert not store.insert(KILL, SNAPSHOT)
    assert store.delayed_sync.wait_s <= DELAY_S
    assert store.insert(sample_kill(1), SNAPSHOT)
    assert not store.add_reaper_step("another boot", REAPER_STEPS[0])
    assert store.delayed_sync.wait_s == math.inf


def test_the_time_counts_from_the_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    store.insert(KILL, SNAPSHOT)
    store.add_reaper_step(BOOT, REAPER_STEPS[0])
    now += DELAY_S / 2
    store.add_exit(BOOT, EXIT)
    assert store.delayed_sync.wait_s == pytest.approx(DELAY_S / 2)
    store.delayed_sync.sync_if_due()
    assert store.delayed_sync.wait_s < math.inf
    # A little more than the other half: floats are rounded.
    now += DELAY_S * 0.6
    store.delayed_sync.sync_if_due()
    assert store.delayed_sync.wait_s == math.inf


def test_what_waits_is_synced_when_the_store_is_closed(tmp_path: Path) -> None:
    """Also while `otel-oom show` reads: then SQLite leaves the log as it is."""
    with Store(tmp_path) as store:
        store.insert(KILL, SNAPSHOT)
        store.add_exit(BOOT, EXIT)
        assert store.delayed_sync.wait_s <= DELAY_S
    assert store.delayed_sync.wait_s == math.inf


def test_capture_syncs_an_exit_that_nothing_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No other turn of its loop.
    monkeypatch.setattr("otel_oom.agent.ingest.SOON_S", 3600)
    monkeypatch.setattr("otel_oom.agent.ingest.EVERY_S", 3600)
    stop, stopped = os.pipe()
    with Store(tmp_path) as store:
        assert store.insert(sample_kill(0, boot_id=clock.boot_id()), SNAPSHOT)
        with ScriptedSource() as source:
            loop = ingest_loop(source, store)
            loop.finish()
            source.buffer.append(EXIT)
            thread = threading.Thread(target=loop.loop, args=(stop,))
            thread.start()
            wait_until(lambda: not source.buffer, "the exit")
            wait_until(lambda: store.delayed_sync.wait_s == math.inf, "its sync")
            os.write(stopped, b"x")
            thread.join()
    os.close(stop)
    os.close(stopped)


def test_a_checkpoint_delays_a_response_and_no_kill(store: Store) -> None:
    """By the time of the file, into which a checkpoint writes the log."""
    file = store.path / "otel-oom.db"
    checkpoints = Counter[str]()

    def step(name: str, work: Callable[[], object]) -> None:
        os.utime(file, ns=(0, 0))
        work()
        checkpoints[name] += file.stat().st_mtime_ns != 0

    for number in range(20):
        kill = sample_kill(number)
        entry = OutboxEntry(number + 1, kill.uid, bytes(5000), bytes(5000))
        step("insert", partial(store.insert, kill, SNAPSHOT, incomplete=True))
        step("complete", partial(store.complete, kill, SNAPSHOT))
        step("enqueue", partial(store.enqueue, [entry]))
        step("ack", lambda: store.ack(store.next_batch("logs", 1, 1)))
    assert checkpoints.pop("ack") >= 2
    assert not checkpoints.total()
