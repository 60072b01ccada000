"""The agent's log, with a reader that is slow, absent or gone."""

from __future__ import annotations

import fcntl
import logging
import os
import select
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.agent import log_stream
from otel_oom.agent.log_stream import LogStream, MessageRateLimit
from otel_oom.linux import clock
from tests.testlib.ingest import ingest
from tests.testlib.require import require
from tests.testlib.samples.events import KILL
from tests.testlib.wait import wait_until

LIMIT_S = 20.0
LOG = logging.getLogger("otel_oom.test")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Create a pipe of one page, as a reader's end and a writer's end."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for descriptor in (reader, writer):
        with suppress(OSError):
            os.close(descriptor)


@pytest.fixture
def stream(pipe: tuple[int, int]) -> LogStream:
    """Write to the pipe, which nobody reads."""
    # Its thread stays: the number of its descriptor must not become that of another file.
    return LogStream(os.dup(pipe[1]))


@pytest.fixture
def log(stream: LogStream) -> Iterator[None]:
    """Send to the stream what all modules log."""
    handler = logging.StreamHandler(stream)
    handler.addFilter(MessageRateLimit())
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    yield
    root.removeHandler(handler)
    root.setLevel(level)


def can_write_at_once(descriptor: int) -> bool:
    """Return whether this kernel can write to a pipe without waiting."""
    try:
        return os.pwritev(descriptor, [b"x"], -1, os.RWF_NOWAIT) == 1
    except OSError:
        return False


def fill(descriptor: int) -> None:
    """Fill the pipe to its last byte."""
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 512)
    os.set_blocking(descriptor, True)


def read_until(descriptor: int, end: bytes) -> bytes:
    """Read until ``end`` came."""
    data = b""
    while not data.endswith(end):
        assert select.select([descriptor], [], [], LIMIT_S)[0], data
        data += os.read(descriptor, 65536)
    return data


@pytest.mark.usefixtures("log")
def test_kills_are_stored_while_nobody_reads_the_log(pipe: tuple[int, int], tmp_path: Path) -> None:
    fill(pipe[1])
    kills = [
        replace(KILL, boot_id=clock.boot_id(), victim=replace(KILL.victim, tgid=tgid))
        for tgid in range(1, 4)
    ]
    capture = threading.Thread(target=ingest, args=(tmp_path, *kills), daemon=True)
    capture.start()
    capture.join(LIMIT_S)
    assert not capture.is_alive(), "the log blocks capture"


def test_what_is_dropped_is_counted_once_the_reader_is_back(
    pipe: tuple[int, int], stream: LogStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "_MAX_QUEUED_CHARS", 200)
    fill(pipe[1])
    stream.write("in the thread's hand\n")
    wait_until(lambda: not stream._queue, "the thread")  # noqa: SLF001  it waits in write(2)
    for number in range(50):
        stream.write(f"message {number:10}\n")
    lines = read_until(pipe[0], b"messages=40\n").decode().splitlines()[1:]
    assert lines == [
        *(f"message {number:10}" for number in range(10)),
        "Log: dropped, since nobody read stderr: messages=40",
    ]
    stream.write("after\n")
    assert read_until(pipe[0], b"after\n") == b"after\n"
    assert stream.drain(LIMIT_S)


def test_the_end_of_the_process_waits_for_the_reader_within_a_bound(
    pipe: tuple[int, int], stream: LogStream
) -> None:
    stream.write("last words\n")
    assert stream.drain(LIMIT_S)
    assert os.read(pipe[0], 100) == b"last words\n"
    fill(pipe[1])
    stream.write("nobody reads this\n")
    assert not stream.drain(0.01)


def test_a_reader_that_is_gone_costs_nothing(pipe: tuple[int, int], stream: LogStream) -> None:
    os.close(pipe[0])
    for _ in range(3):
        stream.write("x\n")
        assert stream.drain(LIMIT_S)
    assert stream._dropped == 3  # noqa: SLF001  and no attempt to report it


def test_the_flags_of_the_shared_descriptor_stay(pipe: tuple[int, int], stream: LogStream) -> None:
    """Another program's flags are kept too: one that made it non-blocking has its reasons."""
    os.set_blocking(pipe[1], False)
    stream.write("x" * 3000 + "\n")
    stream.write("y" * 3000 + "\n")
    assert read_until(pipe[0], b"y\n") == b"x" * 3000 + b"\n" + b"y" * 3000 + b"\n"
    assert not os.get_blocking(pipe[1])


def test_one_message_is_cut(pipe: tuple[int, int], stream: LogStream) -> None:
    stream.write("x" * (1 << 20))
    assert len(read_until(pipe[0], b" [cut]\n")) < 1 << 15


def test_messages_of_one_kind_are_limited_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(number: int) -> None:
        LOG.warning("kill %d", number)

    monkeypatch.setattr(log_stream, "_MAX_MESSAGES", 3)
    limit = MessageRateLimit()
    caplog.handler.addFilter(limit)
    for number in range(10):
        warn(number)
    LOG.warning("another kind")
    monkeypatch.setattr(log_stream, "_WINDOW_S", 0.0)
    for number in range(2):
        warn(number)
    caplog.handler.removeFilter(limit)
    assert [record.getMessage() for record in caplog.records] == [
        *("kill 0", "kill 1", "kill 2", "another kind"),
        *("kill 0 [7 of this kind dropped before]", "kill 1"),
    ]


def test_a_message_that_fits_does_not_wait_for_the_thread(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill would wait for its wake-up, and no order may change."""
    require(can_write_at_once(pipe[1]), "Linux 6.4 or later, for RWF_NOWAIT on pipes")
    monkeypatch.setattr(LogStream, "_run", lambda _: None)
    stream = LogStream(os.dup(pipe[1]))
    stream.write("first\n")
    assert read_until(pipe[0], b"\n") == b"xfirst\n"
    fill(pipe[1])
    stream.write("second\n")
    os.read(pipe[0], 65536)
    stream.write("third\n")
    assert not select.select([pipe[0]], [], [], 0)[0], "it overtook the second one"
