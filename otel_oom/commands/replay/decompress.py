"""Files of logs as streams of bytes, decompressed.

The format is that of the first bytes, as file(1) detects it, never that of the name.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import selectors
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import Final, Protocol

from otel_oom.capture.userspace.daemons import UNITS
from otel_oom.commands.replay.encoding import Utf8Stream

STDIN: Final = Path("-")

_HEAD_BYTES: Final = 6
_READ_BYTES: Final = 1 << 16
_ERROR_BYTES: Final = 1 << 12
"""The part of a program's error output that is shown; the rest is discarded."""
_ZSTD_READ_BYTES: Final = 1 << 10
"""Four bytes expand to a block of 128 KiB, so one read expands to 32 MiB at most."""
_MAX_WINDOW_BYTES: Final = 128 << 20
"""Memory for decompression: `xz -9` needs 65 MiB, and this is the limit of zstd(1) itself."""

_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\x00"
_BZIP2: Final = b"BZh"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_DAMAGED: Final = (EOFError, OSError, zlib.error, lzma.LZMAError)


class UnreadableFileError(Exception):
    """A file, or its rest, can't be read; the message has the reason, and what to do."""


class Stream(Protocol):
    """A stream of bytes: ``read`` returns at most ``size`` of them, and none at the end."""

    def read(self, size: int, /) -> bytes: ...  # noqa: D102  above


class LogStream:
    """The decompressed bytes of a file; each error is an UnreadableFileError."""

    def __init__(self, stream: Stream, path: Path) -> None:
        self._stream = stream
        self._path = path
        self._head = b""
        self._error: UnreadableFileError | None = None

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end. Raises UnreadableFileError."""
        if self._head:
            head, self._head = self._head, b""
            return head
        if self._error:
            raise self._error
        try:
            return self._stream.read(size)
        except _DAMAGED as error:
            raise UnreadableFileError(
                f"{self._path} is damaged or truncated; its rest is not read: {error}."
            ) from error

    def peek(self, size: int) -> bytes:
        """Return the first bytes, as many as there are, which the next read returns again."""
        head = b""
        try:
            while len(head) < size and (data := self.read(size)):
                head += data
        except UnreadableFileError as error:
            self._error = error
        self._head = head
        return head


@contextmanager
def open_journals(files: Sequence[Path]) -> Iterator[tuple[LogStream, Callable[[], int]]]:
    """Open the entries of kernel and daemons in journal files, in journalctl's export format.

    Only systemd itself reads the format of these files. Their position is unknown: 0.
    Raises UnreadableFileError if journalctl can't be run.
    """
    options = ("--quiet", "--no-pager", "--all", "--output=export")
    matches = ("_TRANSPORT=kernel", "+", *(f"_SYSTEMD_UNIT={unit}" for unit in UNITS))
    command = ("journalctl", *(f"--file={file}" for file in files), *options, *matches)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
    except OSError as error:
        raise UnreadableFileError(
            f"Cannot run journalctl, which reads {files[0]}: {error.strerror}. Install it."
        ) from error
    with process:
        try:
            yield LogStream(_ChunkReader(_output_chunks(process)), files[0]), lambda: 0
        finally:
            process.kill()


@contextmanager
def open_file(path: Path) -> Iterator[tuple[LogStream, Callable[[], int]]]:
    """Yield a file's decompressed bytes, and a function for the position in the file.

    Raises UnreadableFileError if it can't be opened.
    """
    with _open(path) as file:
        descriptor, seekable = file.fileno(), file.seekable()

        def position() -> int:
            return os.lseek(descriptor, 0, os.SEEK_CUR) if seekable else 0

        yield LogStream(Utf8Stream(_decompress(file, path)), path), position


def _open(path: Path) -> BufferedReader:
    try:
        if path == STDIN:
            return open(sys.stdin.fileno(), "rb", closefd=False)
        # Opening a pipe without a writer would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UnreadableFileError(f"Cannot read {path}: {error.strerror}.") from error
    os.set_blocking(descriptor, True)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableFileError(f"{path} is a directory.")
    return open(descriptor, "rb")  # noqa: PTH123  a descriptor


def _decompress(file: BufferedReader, path: Path) -> Stream:
    head = file.peek(_HEAD_BYTES)
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(_BZIP2):
        return bz2.BZ2File(file)
    if head.startswith(_XZ):
        return _ChunkReader(_xz_chunks(file))
    if head.startswith(_ZSTD):
        if find_spec("zstandard") is None:
            raise UnreadableFileError(
                f"Cannot read {path}: zstd needs a package that is not installed: "
                "run pip install 'otel-oom[zstd]', or decompress it with zstd -d."
            )
        return _ChunkReader(_zstd_chunks(file))
    return file


class _ChunkReader:
    """Reader of chunks in the sizes that the caller wants; an error comes after the last byte."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self._error: Exception | None = None

    def read(self, size: int, /) -> bytes:
        chunks, missing = [self._rest], size - len(self._rest)
        try:
            while missing > 0:
                # A file may have any number of empty frames.
                if chunk := next(self._chunks):
                    chunks.append(chunk)
                    missing -= len(chunk)
        except StopIteration:
            pass
        except _DAMAGED as error:
            self._error = error
        data = b"".join(chunks)
        if not data and self._error:
            raise self._error
        self._rest = data[size:]
        return data[:size]


def _output_chunks(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Yield the output; both pipes are read, as a full one blocks the process."""
    errors = b""
    with selectors.DefaultSelector() as selector:
        for pipe in filter(None, (process.stdout, process.stderr)):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    yield data
                else:
                    errors = (errors + data)[:_ERROR_BYTES]
    if process.wait():
        raise EOFError(errors.decode(errors="replace").strip())


def _xz_chunks(file: BufferedReader) -> Iterator[bytes]:
    """Decompress streams joined by cat(1), with a memory limit, which lzma's files lack.

    Zeros may follow each stream.
    """
    packed = file.read(_READ_BYTES)
    while packed:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_WINDOW_BYTES)
        while not stream.eof:
            if stream.needs_input and not packed:
                raise EOFError("it ends within a stream")
            yield stream.decompress(packed, _READ_BYTES)
            packed = file.read(_READ_BYTES) if stream.needs_input else b""
        packed = stream.unused_data.lstrip(b"\0")
        while not packed and (following := file.read(_READ_BYTES)):
            packed = following.lstrip(b"\0")


def _zstd_chunks(file: BufferedReader) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415  few files need it

    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    try:
        packed = file.read(_ZSTD_READ_BYTES)
        while packed:
            frame = decompressor.decompressobj()
            while not frame.eof:
                if not packed:
                    raise EOFError("it ends within a frame")
                yield frame.decompress(packed)
                packed = b"" if frame.eof else file.read(_ZSTD_READ_BYTES)
            packed = frame.unused_data or file.read(_ZSTD_READ_BYTES)
    except zstandard.ZstdError as error:
        raise OSError(str(error)) from error
