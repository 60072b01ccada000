"""A disk that fails once, at each call in turn: what was said to be stored is stored."""

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
from tests.testlib.store_process import KILLS

pytestmark = pytest.mark.slow

BOOT = KILL.boot_id
FAR = 1 << 62
NAME = "otel-oom.db"
CALLS = "fdatasync,pwrite64,pread64,ftruncate,unlink,write"


def run(folder: Path, fault: str | None) -> tuple[list[str], list[str]]:
    """Have a process store in ``folder`` with one call that fails: what it told, and its calls.

    ``fault`` is as ``strace -e inject=`` takes it; only calls on the database and its log count.
    """
    state, told, trace = folder / "state", folder / "told", folder / "trace"
    command: list[str | Path] = ["strace", "-f", "-y", "-o", trace, "-e", f"trace={CALLS}"]
    command += ["-P", state / NAME, "-P", state / f"{NAME}-wal", "-P", told]
    if fault:
        command += ["-e", f"inject={fault}"]
    command += [sys.executable, "-m", "tests.testlib.store_process", state, told]
    done = subprocess.run(command, check=False, cwd=Path.cwd(), capture_output=True, text=True)
    require("ptrace" not in done.stderr.lower(), f"to trace a process: {done.stderr[-200:]}")
    lines = told.read_text(encoding="ascii").splitlines() if told.exists() else []
    assert lines or "can't be" in done.stderr, done.stderr
    return lines, trace.read_text(encoding="ascii", errors="replace").splitlines()


def calls(trace: list[str], name: str) -> list[int]:
    """Where in a trace a call stands."""
    return [number for number, line in enumerate(trace) if re.search(rf"\b{name}\(", line)]


def check(folder: Path, told: list[str]) -> None:
    """All that was told as done is found by the next start."""
    recorded = {
        sample_kill(number).uid for number in range(KILLS) if f"done record {number}" in told
    }
    with Store(folder / "state") as store:
        open_ = {row.event.uid: row for row in store.pending_events(100, BOOT, FAR)}
        logs = [message.uid for message in store.next_batch("logs", 100, 1000)]
        spans = [message.uid for message in store.next_batch("traces", 100, 1000)]
        assert recorded <= open_.keys() | set(spans)
        if "done queue" in told:
            assert {sample_kill(0).uid, sample_kill(1).uid} <= set(spans)
            assert sample_kill(1).uid in logs
        if "done deliver" in told:
            assert sample_kill(0).uid not in logs


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The calls of a run without a fault."""
    require(shutil.which("strace"), "strace lets a call fail")
    folder = tmp_path_factory.mktemp("sound")
    told, trace = run(folder, None)
    assert len(told) == KILLS + 3, told
    check(folder, told)
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
def test_what_is_said_to_be_stored_is(
    tmp_path: Path, sound: list[str], call: str, error: str, every: int
) -> None:
    """Whichever call fails, once: all that is told as done is there, and all else is done later."""
    for number in range(1, len(calls(sound, call)) + 1, every):
        folder = tmp_path / str(number)
        folder.mkdir()
        told, trace = run(folder, f"{call}:error={error}:when={number}")
        assert any("INJECTED" in line for line in trace), f"{call} {number} was not reached"
        if told:
            assert len(told) == KILLS + 3, f"{call} {number}: {told}"
        check(folder, told)


def test_a_failed_sync_is_not_tried_again_on_the_same_bytes(
    tmp_path: Path, sound: list[str]
) -> None:
    """After it nobody knows what is on the disk: all is written anew before anything is told."""
    seen = 0
    for number in range(1, len(calls(sound, "fdatasync")) + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        _, trace = run(folder, f"fdatasync:error=EIO:when={number}")
        failed = next(place for place, line in enumerate(trace) if "INJECTED" in line)
        rest = trace[failed:]
        told = [place for place, line in enumerate(rest) if "write(" in line and "done" in line]
        if f"{NAME}-wal" not in trace[failed] or not told:
            continue
        seen += 1
        before = rest[: told[0]]
        synced = [
            place
            for place in calls(before, "fdatasync")
            if f"{NAME}>" in before[place] and before[place].endswith("= 0")
        ]
        gone = calls(before, "unlink") + calls(before, "ftruncate")
        assert synced, before
        assert any(f"{NAME}-wal" in before[place] for place in gone), before
    assert seen >= KILLS
