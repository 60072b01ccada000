"""A source that attaches while the agent goes on: entered, cancelled, or refused by the host."""

from __future__ import annotations

import threading
from typing import Self

import pytest

from otel_oom.capture.attach_thread import AttachThread
from otel_oom.capture.source import CaptureError
from tests.testlib.ingest import ScriptedSource


class SlowSource(ScriptedSource):
    """A source that attaches when it is let, and counts what is done to it."""

    def __init__(self, error: CaptureError | None = None) -> None:
        """Fail to attach with ``error``."""
        super().__init__()
        self.allow = threading.Event()
        self.calls: list[str] = []
        self._error = error

    def __enter__(self) -> Self:
        """Wait for ``allow``."""
        assert self.allow.wait(10)
        if self._error:
            raise self._error
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        """Detach."""
        self.calls.append("exit")
        super().__exit__()

    def withdraw(self) -> None:
        """Remove what would stay."""
        self.calls.append("withdraw")


def test_the_caller_goes_on_while_the_source_attaches() -> None:
    source = SlowSource()
    attaching = AttachThread(source)
    source.allow.set()
    with attaching as attached:
        assert attached is source
        attaching.cancel()
        assert source.calls == []
    assert source.calls == ["exit"]


def test_entering_raises_why_the_host_refused() -> None:
    source = SlowSource(CaptureError("no BTF"))
    attaching = AttachThread(source)
    source.allow.set()
    with pytest.raises(CaptureError, match="no BTF"), attaching:
        pass
    attaching.cancel()
    assert source.calls == []


def test_a_source_that_is_not_used_leaves_nothing_in_the_kernel() -> None:
    source = SlowSource()
    attaching = AttachThread(source)
    source.allow.set()
    attaching.cancel()
    assert source.calls == ["withdraw", "exit"]
