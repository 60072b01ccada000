"""A file of a log, whatever it is packed with, as a stream of bytes.

What it is packed with is told by its first bytes, as file(1) does, never by its name. No Python
before 3.14 has zstd: there its own program unpacks, which is what logrotate(8) packs with.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final, Protocol

STDIN: Final = Path("-")

_HEAD_BYTES: Final = 6
_PACKED_BYTES: Final = 1 << 16
_MOST_DICTIONARY: Final = 128 << 20
"""What unpacking may take: `xz -9` asks for 65 MiB, and zstd's own bound is this."""

_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\x00"
_BZIP2: Final = b"BZh"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"


class UnreadableError(Exception):
    """A file, or the rest of it, can't be read; the message says why and what to do."""


class Stream(Protocol):
    """Bytes in their order."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end.

        Raises:
            UnreadableError: it is damaged from here on.
        """


@contextmanager
def journals(files: Sequence[Path]) -> Iterator[Stream]:
    """The kernel's lines in the journal's own files, as journalctl(1) exports them.

    Their format is not for others to read.

    Raises:
        UnreadableError: there is no such program.
    """
    words = ("--quiet", "--no-pager", "--all", "--output=export", "_TRANSPORT=kernel")
    with piped(("journalctl", *(f"--file={file}" for file in files), *words)) as stream:
        yield _ErrorMappingStream(stream, files[0])


@contextmanager
def opened(path: Path) -> Iterator[tuple[Stream, Callable[[], int]]]:
    """The unpacked bytes of a file, and how many of its own bytes have been read so far.

    Raises:
        UnreadableError: it can't be opened, or nothing here unpacks it.
    """
    with _file(path) as file:
        descriptor = file.fileno()
        seekable = file.seekable()

        def position() -> int:
            return os.lseek(descriptor, 0, os.SEEK_CUR) if seekable else 0

        if file.peek(_HEAD_BYTES).startswith(_ZSTD):
            with _zstd(file, path) as stream:
                yield _ErrorMappingStream(stream, path), position
        else:
            yield _ErrorMappingStream(_unpacked(file), path), position


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _ErrorMappingStream:
    """A stream whose every failure is one kind of error, with a sentence."""

    def __init__(self, stream: _Readable, path: Path) -> None:
        self._stream = stream
        self._path = path

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise UnreadableError(
                f"{self._path} is damaged or cut off, and is read no further: {error}."
            ) from error


def _file(path: Path) -> BufferedReader:
    try:
        if path == STDIN:
            return open(sys.stdin.fileno(), "rb", closefd=False)
        # A pipe nobody writes to would hold up its opening for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UnreadableError(f"{path} can't be read: {error.strerror}.") from error
    os.set_blocking(descriptor, True)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnreadableError(f"{path} is a folder.")
    return open(descriptor, "rb")  # noqa: PTH123  a descriptor


def _unpacked(file: BufferedReader) -> _Readable:
    head = file.peek(_HEAD_BYTES)
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(_BZIP2):
        return bz2.BZ2File(file)
    return _Xz(file) if head.startswith(_XZ) else file


class _Xz:
    """Unpacks xz with a bound on what its dictionary may take, which :mod:`lzma`'s files lack."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._stream = _xz_stream()

    def read(self, size: int, /) -> bytes:
        while True:
            packed = b""
            if self._stream.eof:
                # Streams are joined by cat(1), or padded with zeros.
                rest = self._stream.unused_data.lstrip(b"\0") or self._next().lstrip(b"\0")
                if not rest:
                    return b""
                self._stream, packed = _xz_stream(), rest
            elif self._stream.needs_input:
                packed = self._next()
                if not packed:
                    raise EOFError("it ends within a stream")
            data = self._stream.decompress(packed, size)
            if data:
                return data

    def _next(self) -> bytes:
        return self._file.read(_PACKED_BYTES)


def _xz_stream() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_DICTIONARY)


class _Piped:
    """What a program writes, and whether it ended well."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def read(self, size: int, /) -> bytes:
        assert self._process.stdout is not None  # noqa: S101  it was asked for
        data = self._process.stdout.read(size)
        if not data and self._process.wait():
            assert self._process.stderr is not None  # noqa: S101  likewise
            raise EOFError(
                self._process.stderr.read(_PACKED_BYTES).decode(errors="replace").strip()
            )
        return data


@contextmanager
def _zstd(file: BufferedReader, path: Path) -> Iterator[_Readable]:
    if not file.seekable():
        raise UnreadableError(
            f"{path} is packed with zstd, which is unpacked out of files alone. "
            "Put zstdcat in between."
        )
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    command = ("zstd", "--decompress", "--stdout", "--quiet", f"--memory={_MOST_DICTIONARY}")
    with piped(command, file) as stream:
        yield stream


@contextmanager
def piped(command: Sequence[str], stdin: BufferedReader | None = None) -> Iterator[_Readable]:
    """What a program writes to its standard output.

    Raises:
        UnreadableError: it can't be run.
    """
    try:
        started = subprocess.Popen(
            command,
            stdin=stdin or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise UnreadableError(
            f"{command[0]} is needed to read this, and can't be run: {error.strerror}. Install it."
        ) from error
    with started as process:
        try:
            yield _Piped(process)
        finally:
            process.kill()
