"""An I/O error at each system call in turn: what was reported as stored is stored."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from otel_oom.store import Store
from tests.testlib.require import require
from tests.testlib.samples.events import KILL, sample_kill
from tests.unit.store.recovery.store_process import KILLS, STEPS

pytestmark = pytest.mark.slow

BOOT = KILL.boot_id
FAR = 1 << 62
NAME = "otel-oom.db"
CALLS = "fdatasync,pwrite64,pread64,ftruncate,unlink,write"


def run_with_fault(folder: Path, fault: str | None) -> tuple[list[str], list[str]]:
    """Have a process use a store in ``folder`` with one failing call; return its output and calls.

    ``fault`` is as ``strace -e inject=`` takes it; only calls on the database and its log count.
    """
    state, reported, trace = folder / "state", folder / "reported", folder / "trace"
    command: list[str | Path] = ["strace", "-f", "-y", "-o", trace, "-e", f"trace={CALLS}"]
    command += ["-P", state / NAME, "-P", state / f"{NAME}-wal", "-P", reported]
    if fault:
        command += ["-e", f"inject={fault}"]
    command += [sys.executable, "-m", "tests.unit.store.recovery.store_process", state, reported]
    done = subprocess.run(command, check=False, cwd=Path.cwd(), capture_output=True, text=True)
    require("ptrace" not in done.stderr.lower(), f"to trace a process: {done.stderr[-200:]}")
    lines = reported.read_text(encoding="ascii").splitlines() if reported.exists() else []
    assert lines or "can't be" in done.stderr, done.stderr
    return lines, trace.read_text(encoding="ascii", errors="replace").splitlines()


def find_calls(trace: list[str], name: str) -> list[int]:
    """Return the positions of a call in a trace."""
    return [number for number, line in enumerate(trace) if re.search(rf"\b{name}\(", line)]


def require_stored(folder: Path, reported: list[str]) -> None:
    """Require that the next start finds everything that was reported as done."""
    recorded = {
        sample_kill(number).uid for number in range(KILLS) if f"done record {number}" in reported
    }
    with Store(folder / "state") as store:
        pending = {row.event.uid: row for row in store.pending_events(100, BOOT, FAR)}
        logs = [message.uid for message in store.next_batch("logs", 100, 1000)]
        spans = [message.uid for message in store.next_batch("traces", 100, 1000)]
        assert recorded <= pending.keys() | set(spans)
        if "done queue" in reported:
            assert {sample_kill(0).uid, sample_kill(1).uid} <= set(spans)
            assert sample_kill(1).uid in logs
            assert "done exit" not in reported or pending[sample_kill(KILLS - 1).uid].exit
        if "done deliver" in reported:
            assert sample_kill(0).uid not in logs


@pytest.fixture(scope="module")
def faultless_trace(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Calls of a run without a fault."""
    require(shutil.which("strace"), "strace lets a call fail")
    folder = tmp_path_factory.mktemp("faultless")
    reported, trace = run_with_fault(folder, None)
    assert len(reported) == STEPS, reported
    require_stored(folder, reported)
    return trace


@pytest.mark.parametrize(
    ("call", "error", "every"),
    [
        ("fdatasync", "EIO", 1),
        ("pwrite64", "EIO", 9),
        ("pwrite64", "ENOSPC", 9),
        ("pread64", "EIO", 1),
    ],
)
def test_reported_work_is_on_the_disk(
    tmp_path: Path, faultless_trace: list[str], call: str, error: str, every: int
) -> None:
    for number in range(1, len(find_calls(faultless_trace, call)) + 1, every):
        folder = tmp_path / str(number)
        folder.mkdir()
        reported, trace = run_with_fault(folder, f"{call}:error={error}:when={number}")
        assert any("INJECTED" in line for line in trace), f"{call} {number} was not reached"
        if reported:
            assert len(reported) == STEPS, f"{call} {number}: {reported}"
        require_stored(folder, reported)


def test_after_a_failed_sync_the_log_is_rewritten(
    tmp_path: Path, faultless_trace: list[str]
) -> None:
    checked = 0
    for number in range(1, len(find_calls(faultless_trace, "fdatasync")) + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        _, trace = run_with_fault(folder, f"fdatasync:error=EIO:when={number}")
        failed = next(place for place, line in enumerate(trace) if "INJECTED" in line)
        rest = trace[failed:]
        reported = [place for place, line in enumerate(rest) if "write(" in line and "done" in line]
        if f"{NAME}-wal" not in trace[failed] or not reported:
            continue
        checked += 1
        before = rest[: reported[0]]
        synced = [
            place
            for place in find_calls(before, "fdatasync")
            if f"{NAME}>" in before[place] and before[place].endswith("= 0")
        ]
        removed = find_calls(before, "unlink") + find_calls(before, "ftruncate")
        assert synced, before
        assert any(f"{NAME}-wal" in before[place] for place in removed), before
    assert checked >= KILLS
