"""Fixtures of the tests that send."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testlib.exporter import Outbox


@pytest.fixture(autouse=True)
def _no_proxy_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests send to their own servers, whatever proxy this host uses."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    empty = Outbox(tmp_path)
    yield empty
    empty.close()
