"""Closing a transport while it sends."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from otel_oom.export.result import ExportResult, Transport
from tests.testlib.servers.http_server import CLIENT_TIMEOUT_S

_HANGS_S = 0.3
_PROMPT_S = 5.0


def assert_close_ends_send(transport: Transport) -> None:
    """A send that hangs ends as LATER when the transport is closed; so does the next one."""
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(transport.send, b"x")
        with pytest.raises(TimeoutError):
            under_way.result(_HANGS_S)
        began = time.monotonic()
        transport.close()
        assert under_way.result(CLIENT_TIMEOUT_S).result is ExportResult.RETRYABLE
        assert time.monotonic() - began < _PROMPT_S
    assert transport.send(b"x").result is ExportResult.RETRYABLE
