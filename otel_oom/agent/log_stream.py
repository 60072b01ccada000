"""The agent's log on stderr, which no thread but its own waits for.

With nobody reading a pipe or a terminal, write(2) blocks. The descriptor may be shared with other
programs, so its flags stay as they are: a thread writes what can't be written at once, and may wait
there for ever.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import stat
import sys
import threading
import time
from collections import deque
from typing import Final

_MAX_ENTRY_CHARS: Final = 16384
_MAX_QUEUED_CHARS: Final = 1 << 18
"""Some 2,500 messages, until the reader goes on."""
_MAX_MESSAGES: Final = 100
_WINDOW_S: Final = 10.0
"""Each kind of message may come :data:`_MAX_MESSAGES` times in this time."""
_PIPE_BUF: Final = 4096
_POLL_S: Final = 0.1
_FLUSH_S: Final = 1.0
"""Longest wait for the reader at the end of the process."""


class LogStream(io.TextIOBase):
    """A text stream onto a descriptor, whose writers never wait.

    What the reader leaves no space for is dropped; a line says how much, once it reads again.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to ``descriptor``, which stays open as long as the process."""
        self._descriptor = descriptor
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._queue: deque[tuple[int, str]] = deque()
        """Messages, each with the number of those that were dropped before it."""
        self._queued_chars = 0
        self._dropped = 0
        self._is_writing = self._failed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """Return true."""
        return True

    def write(self, text: str) -> int:
        """Queue ``text``, or count it as dropped."""
        with self._changed:
            self._failed = False
            if self._queued_chars + min(len(text), _MAX_ENTRY_CHARS) > _MAX_QUEUED_CHARS:
                self._dropped += 1
            else:
                entry = text if len(text) <= _MAX_ENTRY_CHARS else _cut(text)
                if self._has_work() or not self._write_at_once(_encode(entry)):
                    self._add(entry)
                    self._changed.notify_all()
        return len(text)

    def _write_at_once(self, data: bytes) -> bool:
        """Write all of it without waiting, where the kernel can (pwritev2(2), RWF_NOWAIT).

        A kill waits for a wake-up of the thread, some 0.5 ms. To a pipe or a socket, a page or less
        is written as a whole or not at all.
        """
        if self._is_file or len(data) > _PIPE_BUF:
            return False
        try:
            return os.pwritev(self._descriptor, [data], -1, os.RWF_NOWAIT) == len(data)
        except OSError:
            return False

    def drain(self, timeout_s: float = _FLUSH_S) -> bool:
        """Wait until all is written; return false if that takes longer than ``timeout_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._has_work(), timeout_s)

    def _has_work(self) -> bool:
        has_drops = bool(self._dropped) and not self._failed
        return bool(self._queue) or self._is_writing or has_drops

    def _add(self, text: str) -> None:
        self._queue.append((self._dropped, text))
        self._queued_chars += len(text)
        self._dropped = 0

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                if not self._has_work():
                    self._changed.notify_all()
                    self._changed.wait_for(self._has_work)
                if not self._queue:
                    self._add("")
                dropped, text = self._queue.popleft()
                self._queued_chars -= len(text)
                self._is_writing = True
            report = f"Log: dropped, since nobody read stderr: messages={dropped}\n"
            if not self._write_out(_encode(f"{report if dropped else ''}{text}")):
                with self._changed:
                    self._dropped += dropped + bool(text)
                    self._failed = True

    def _write_out(self, data: bytes) -> bool:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Whoever shares the descriptor has made it non-blocking.
                time.sleep(_POLL_S)
            except OSError:
                # The reader is gone, or the disk is full.
                return False
        return True


class MessageRateLimit(logging.Filter):
    """A limit to the messages of one kind, which is a place in the source."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message may come; the first of a window says how many did not."""
        kind = record.pathname, record.lineno
        started, count = self._windows.get(kind, (0.0, 0))
        if record.created >= started + _WINDOW_S or record.created < started:
            if count > _MAX_MESSAGES:
                suffix = f" [{count - _MAX_MESSAGES} of this kind dropped before]"
                record.msg = record.getMessage() + suffix
                record.args = None
            started, count = record.created, 0
        self._windows[kind] = started, count + 1
        return count < _MAX_MESSAGES


def install_log_stream() -> None:
    """Send all that this process logs, or else writes to stderr, through a :class:`LogStream`."""
    stderr = sys.stderr
    if stderr is None:
        return
    stream = LogStream(os.dup(stderr.fileno()))
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is stderr:
            handler.setStream(stream)
            handler.addFilter(MessageRateLimit())
    # The core of gRPC writes to stderr itself, and its threads would wait there.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # For exceptions of threads, and for the message that a command ends with.
    sys.stderr = stream
    atexit.register(stream.drain)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _cut(text: str) -> str:
    return f"{text[: _MAX_ENTRY_CHARS - 8]} [cut]\n"
