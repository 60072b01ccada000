"""The state directory: private, and locked by one agent."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from otel_oom.store import Store, StoreError
from otel_oom.store.state_dir import StateDirectory
from tests.testlib.require import require
from tests.testlib.samples.events import (
    KILL,
    SNAPSHOT,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with Store(tmp_path / "state") as opened:
        yield opened


def test_a_second_agent_is_rejected(store: Store) -> None:
    with pytest.raises(StoreError, match="Another otel-oom"), Store(store.path):
        pass


def test_the_lock_is_released_though_a_child_has_a_copy(tmp_path: Path) -> None:
    ended = StateDirectory(tmp_path)
    ended.lock()
    assert ended._lock is not None  # noqa: SLF001  its copy stands for that process
    copy = os.dup(ended._lock)  # noqa: SLF001
    ended.release()
    StateDirectory(tmp_path).lock()
    os.close(copy)


def test_modes_are_private(store: Store) -> None:
    store.insert(KILL, SNAPSHOT)
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700
    for path in store.path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.parametrize("name", ["otel-oom.db", "otel-oom.db-wal", "lock", "reserve"])
def test_symbolic_links_are_not_followed(tmp_path: Path, name: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine", encoding="ascii")
    (state / name).symlink_to(elsewhere)
    with suppress(StoreError), Store(state) as store:
        store.insert(KILL, SNAPSHOT)
    assert elsewhere.read_text(encoding="ascii") == "mine"


def test_a_link_to_a_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to("elsewhere")
    tmp_path.chmod(0o777)
    with pytest.raises(StoreError, match="symbolic link"), Store(tmp_path / "state"):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.root
def test_a_link_made_by_root_is_followed(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "links of root's")
    (tmp_path / "private").mkdir()
    (tmp_path / "state").symlink_to("private")
    with Store(tmp_path / "state") as store:
        store.insert(KILL, SNAPSHOT)
    assert (tmp_path / "private/otel-oom.db").is_file()


@pytest.mark.parametrize("whose", ["folder", "otel-oom.db", "lock"])
@pytest.mark.root
def test_files_of_another_user_are_rejected(tmp_path: Path, whose: str) -> None:
    require(os.geteuid() == 0, "to give a file away needs root")
    state = tmp_path / "state"
    with Store(state):
        pass
    theirs = state if whose == "folder" else state / whose
    os.chown(theirs, 12345, -1)
    with pytest.raises(StoreError, match="is owned by uid 12345"), Store(state):
        pass
    assert theirs.stat().st_uid == 12345


def test_wide_modes_are_narrowed(tmp_path: Path) -> None:
    with Store(tmp_path / "state"):
        pass
    (tmp_path / "state").chmod(0o755)
    (tmp_path / "state" / "otel-oom.db").chmod(0o644)
    with Store(tmp_path / "state") as store:
        test_modes_are_private(store)


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "otel-oom.db").mkdir()
    for _ in range(2):
        with pytest.raises(StoreError, match="can't be opened"), Store(tmp_path):
            pass
    (tmp_path / "otel-oom.db").rmdir()
    with Store(tmp_path) as store:
        assert store.stats.row_counts()["events"] == 0
