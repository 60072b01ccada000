"""The version of the schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from otel_oom.store import Store, StoreError
from otel_oom.store.database_file import configure


def tables(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "otel-oom.db")) as database:
        return [name for (name,) in database.execute("SELECT name FROM sqlite_schema")]


def test_a_new_file_has_version_5(tmp_path: Path) -> None:
    with Store(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (5,)


def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        # In the way of a table of the store.
        database.execute("CREATE VIEW counters AS SELECT 1")
    with pytest.raises(StoreError, match="counters"), Store(tmp_path):
        pass
    assert tables(tmp_path) == ["counters"]
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (0,)


@pytest.mark.parametrize(("version", "reason"), [(99, "later"), (1, "before its first release")])
def test_another_version_is_rejected_and_unchanged(
    tmp_path: Path, version: int, reason: str
) -> None:
    with Store(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        database.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(StoreError, match=f"{reason}.*version {version}"), Store(tmp_path):
        pass
    with closing(sqlite3.connect(tmp_path / "otel-oom.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (version,)


def test_an_old_sqlite_is_rejected_before_anything_is_written() -> None:
    def deny(action: int, _first: str | None, function: str | None, *_: object) -> int:
        lacks = action == sqlite3.SQLITE_FUNCTION and function == "->>"
        return sqlite3.SQLITE_DENY if lacks else sqlite3.SQLITE_OK

    with closing(sqlite3.connect(":memory:")) as database:
        database.set_authorizer(deny)
        with pytest.raises(StoreError, match=sqlite3.sqlite_version):
            configure(database, check=False)
        assert database.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
