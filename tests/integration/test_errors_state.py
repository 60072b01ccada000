"""A state directory that is unusable."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.testlib.agent import run_agent
from tests.testlib.command import NOBODY, CompletedCommand, mount_namespace, run_otel_oom
from tests.testlib.require import require

pytestmark = pytest.mark.root


def run(state: Path, prefix: tuple[str, ...] = ()) -> CompletedCommand:
    """Run the agent with its state in ``state``."""
    return run_otel_oom("run", "--no-pin", "--state-dir", state, prefix=prefix)


@pytest.mark.parametrize("below", ["", "state"])
def test_a_file_in_its_place(tmp_path: Path, below: str) -> None:
    """A file in place of the directory, or of one above it, is reported and left alone."""
    (tmp_path / "file").write_text("mine", encoding="ascii")
    done = run(tmp_path / "file" / below)
    assert done.code == 1
    assert f"The state directory {tmp_path / 'file'}" in done.error_message()
    assert "--state-dir" in done.error_message()
    assert (tmp_path / "file").read_text(encoding="ascii") == "mine"


@pytest.mark.parametrize("below", ["", "state"])
def test_a_read_only_mount(tmp_path: Path, below: str) -> None:
    done = run(tmp_path / below, mount_namespace(f"mount -t tmpfs -o ro none {tmp_path}"))
    assert done.code == 1
    assert "Read-only file system" in done.error_message()
    assert "--state-dir" in done.error_message()


def test_a_directory_of_another_user(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "to become somebody else needs root")
    done = run(tmp_path / "state", NOBODY)
    assert done.code == 1
    assert "Permission denied" in done.error_message()
    assert "--state-dir" in done.error_message()


@pytest.mark.usefixtures("real_kills")
def test_a_second_agent(tmp_path: Path) -> None:
    """It does not start, and the first one is not affected."""
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}) as first:
        done = run(first.state_dir)
        assert first.process.poll() is None
        assert first.stop() == 0
    assert done.code == 1
    assert f"Another otel-oom already works in {first.state_dir}" in done.error_message()
    assert "--state-dir" in done.error_message()


@pytest.mark.usefixtures("real_kills")
def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """It is kept under a new name, which is reported; the agent goes on."""
    garbage = b"no database at all, by any means" * 256
    state = tmp_path / "state"
    state.mkdir()
    (state / "otel-oom.db").write_bytes(garbage)
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}) as running:
        assert running.state_dir == state
        assert running.stop() == 0
    (moved,) = state.glob("otel-oom-*.db")
    assert moved.read_bytes() == garbage
    assert "file is not a database" in running.log_text()
    assert moved.name in running.log_text()


def test_a_database_of_a_later_version(tmp_path: Path) -> None:
    """It is left alone, and both versions are reported."""
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        database.execute("PRAGMA user_version = 4711")
    done = run(tmp_path)
    assert done.code == 1
    assert "4711" in done.error_message()
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        assert database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
