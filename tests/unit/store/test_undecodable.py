"""Undecodable records on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.store import StoreError, undecodable
from otel_oom.store.undecodable import save_record


def test_a_record_is_saved_once(tmp_path: Path) -> None:
    record = bytes(range(256))
    first, second = save_record(tmp_path, record), save_record(tmp_path, record)
    assert first is not None
    assert first == second
    assert first.read_bytes() == record
    assert first.stat().st_mode & 0o777 == 0o600
    assert list((tmp_path / "undecodable").iterdir()) == [first]


def test_an_unfinished_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "undecodable").mkdir()
    (tmp_path / "undecodable" / "unfinished").write_bytes(b"half")
    saved = save_record(tmp_path, b"whole")
    assert saved is not None
    assert [path.read_bytes() for path in (tmp_path / "undecodable").iterdir()] == [b"whole"]
    assert saved.read_bytes() == b"whole"


def test_a_full_folder_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecodable, "_MAX_RECORDS", 1)
    saved = save_record(tmp_path, b"first")
    assert save_record(tmp_path, b"second") is None
    assert save_record(tmp_path, b"first") == saved


def test_a_folder_that_is_not_writable_raises_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "undecodable").write_text("a file", encoding="ascii")
    with pytest.raises(StoreError, match="Can't write to"):
        save_record(tmp_path, b"record")
