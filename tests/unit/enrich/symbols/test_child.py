"""The process that looks up symbols, started and ended by the agent."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from otel_oom.enrich.symbols import child
from otel_oom.enrich.symbols.child import SymbolChild
from otel_oom.enrich.symbols.request import (
    NO_SYMBOL,
    FrameKey,
    FrameSymbol,
    SymbolRequest,
    decode_symbols,
    encode_symbols,
)
from tests.testlib.hostile_elf import BUILD_ID, many_symbols

FRAME = FrameKey(BUILD_ID, 0x1000, behind_call=False)
REQUEST = SymbolRequest((FRAME,), (), (), ("/nonexistent",), "/nonexistent")


def test_symbols_survive_the_way_back() -> None:
    symbols = [FrameSymbol(b"libc.so.6", b"malloc", 12), NO_SYMBOL, FrameSymbol(b"a\nb", b"", 0)]
    assert decode_symbols(encode_symbols(symbols), 3) == symbols


@pytest.mark.parametrize(
    "message",
    [b"", b"a", b"a\0b\0c", b"a\0b\0-1", b"a\0b\x001\0", b"\0\0\0\0\0", b"a\0b\0" + b"9" * 9999],
)
def test_any_other_message_is_none(message: bytes) -> None:
    """A tenant may have taken over the process."""
    assert decode_symbols(message, 1) is None


def test_a_process_that_hangs_in_the_kernel_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A killed process stays while its file system hangs: two are left, and no third is started."""
    started: list[int] = []
    real_start, real_reap = child._start, child._reap  # noqa: SLF001  the seam of the fault

    def start(theirs: socket.socket) -> int:
        started.append(real_start(theirs))
        return started[-1]

    monkeypatch.setattr(child, "_start", start)
    monkeypatch.setattr(child, "_reap", lambda _: None)
    monkeypatch.setattr(child, "_REAP_PAUSE_S", 0)
    runner = SymbolChild()
    try:
        for _ in range(4):
            runner.run(REQUEST, timeout_s=60)
        assert len(started) == 2
    finally:
        monkeypatch.undo()
        for pid in started:
            os.waitpid(pid, 0)
    assert [real_reap(pid) for pid in started] == [0.0, 0.0]
    assert runner.run(REQUEST, timeout_s=60) == [NO_SYMBOL], "it works again once they have ended"


def test_no_process_is_no_symbols(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert SymbolChild().run(REQUEST, timeout_s=60) is None
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert SymbolChild().run(REQUEST, timeout_s=60) is None


def test_a_spare_process_serves_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started after the request, is replaced if it was killed, and ends when unused."""
    started: list[int] = []
    real_start = child._start  # noqa: SLF001  the count of processes

    def start(theirs: socket.socket) -> int:
        started.append(real_start(theirs))
        return started[-1]

    monkeypatch.setattr(child, "_start", start)
    runner = SymbolChild(spare_s=60)
    assert runner.run(REQUEST, timeout_s=60) == [NO_SYMBOL]
    assert len(started) == 1, "the kill does not wait for a spare one"
    assert runner.settle()
    assert len(started) == 2, "one for the request, one spare"
    assert runner.run(REQUEST, timeout_s=60) == [NO_SYMBOL]
    assert runner.settle()
    assert len(started) == 3, "the spare one had the request"
    os.kill(started[-1], signal.SIGKILL)
    os.waitid(os.P_PID, started[-1], os.WEXITED | os.WNOWAIT)
    assert runner.run(REQUEST, timeout_s=60) == [NO_SYMBOL]
    assert runner.settle()
    assert not runner.settle()
    assert 0 < runner.end_spare() <= 60
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert runner.end_spare() == math.inf
    for pid in started:
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def test_secrets_of_the_agent_stay_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its environment nor what it has open."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=X7kP2q")
    program = tmp_path / "python"
    program.write_text(
        f"#!/bin/sh\nexec >{tmp_path}/out; env; ls -l /proc/$$/fd\n", encoding="ascii"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert SymbolChild().run(REQUEST, timeout_s=60) is None
    assert "X7kP2q" not in (tmp_path / "out").read_text(encoding="utf-8")


def test_libraries_that_leave_descriptors_open_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/lib.so").write_bytes(many_symbols(10))
    fd = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(fd, True)  # noqa: FBT003  its only parameter
    try:
        request = REQUEST._replace(library_roots=(str(tmp_path),))
        assert SymbolChild().run(request, timeout_s=60) == [FrameSymbol(b"/lib/lib.so", b"f", 0)]
    finally:
        os.close(fd)
