"""Records that nobody can read yet, on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.store import StoreError, undecodable
from otel_oom.store.undecodable import save_record


def test_a_record_is_kept_byte_for_byte_and_once(tmp_path: Path) -> None:
    """Read twice, it is one file, which nobody else may read."""
    record = bytes(range(256))
    first, second = save_record(tmp_path, record), save_record(tmp_path, record)
    assert first == second
    assert first.read_bytes() == record
    assert first.stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "undecodable").iterdir()) == [first]


def test_what_a_crash_left_half_written_is_begun_anew(tmp_path: Path) -> None:
    """It never passes for a record."""
    (tmp_path / "undecodable").mkdir()
    (tmp_path / "undecodable" / "unfinished").write_bytes(b"half")
    kept = save_record(tmp_path, b"whole")
    assert [path.read_bytes() for path in (tmp_path / "undecodable").iterdir()] == [b"whole"]
    assert kept.read_bytes() == b"whole"


def test_a_full_folder_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the record stays where it is, and the way out is told."""
    monkeypatch.setattr(undecodable, "_MAX_RECORDS", 1)
    kept = save_record(tmp_path, b"first")
    with pytest.raises(StoreError, match="move it away"):
        save_record(tmp_path, b"second")
    assert save_record(tmp_path, b"first") == kept


def test_a_folder_that_takes_nothing_is_the_stores_failure(tmp_path: Path) -> None:
    """What the agent waits for and tries again."""
    (tmp_path / "undecodable").write_text("a file", encoding="ascii")
    with pytest.raises(StoreError, match="Can't write to"):
        save_record(tmp_path, b"record")
