"""Selection, order and decompression of log files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import zstandard

from otel_oom.commands.replay.decompress import (
    STDIN,
    UnreadableFileError,
    open_file,
    open_journals,
)
from otel_oom.commands.replay.log_files import select_log_files
from otel_oom.commands.replay.progress import Progress
from tests.testlib.require import require
from tests.testlib.samples.replay_logs import (
    KILL,
    dmesg_lines,
    format_export,
    format_json,
    journal_entries,
    syslog_lines,
)

PLAIN = "".join(f"{line}\n" for line in syslog_lines(KILL)).encode()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".bz2": bz2.compress,
    # With a checksum, as by zstd(1).
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def _read(path: Path) -> bytes:
    with open_file(path) as (stream, position):
        data = b"".join(iter(lambda: stream.read(1000), b""))
        assert position() in {0, path.stat().st_size}
    return data


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_file_is_decompressed_whatever_its_name(suffix: str, tmp_path: Path) -> None:
    packed = PACKERS[suffix](PLAIN)
    (tmp_path / "kern.log").write_bytes(packed * 3)
    assert _read(tmp_path / "kern.log") == PLAIN * 3


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2", ".zst"])
@pytest.mark.parametrize("damage", ["cut off", "overwritten"])
def test_a_damaged_file_is_read_as_far_as_it_goes(suffix: str, damage: str, tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(3 << 20)  # noqa: S311  the same each time
    whole = PACKERS[suffix](PLAIN + noise)
    half = len(whole) // 2
    damaged = whole[:half] if damage == "cut off" else whole[:half] + bytes(64) + whole[half + 64 :]
    path = tmp_path / f"kern.log{suffix}"
    path.write_bytes(damaged)
    got = b""
    with open_file(path) as (stream, _):
        try:
            while data := stream.read(1000):
                got += data
        except UnreadableFileError as error:
            message = str(error)
    assert "damaged" in message
    assert str(path) in message
    assert got.startswith(PLAIN)


def test_padding_behind_xz_is_no_damage(tmp_path: Path) -> None:
    packed = lzma.compress(PLAIN)
    (tmp_path / "log").write_bytes(packed + bytes(8) + packed + bytes(4))
    assert _read(tmp_path / "log") == PLAIN * 2


def test_xz_that_needs_much_memory_is_rejected(tmp_path: Path) -> None:
    packed = bytearray(lzma.compress(PLAIN))
    # The block's header: the dictionary's size is its one filter's property, a sum is its end.
    at = packed.index(b"\x21\x01", 12)
    packed[at + 2] = 36  # 1 GiB
    end = 12 + (packed[12] + 1) * 4
    packed[end - 4 : end] = zlib.crc32(bytes(packed[12 : end - 4])).to_bytes(4, "little")
    (tmp_path / "log").write_bytes(packed)
    with pytest.raises(UnreadableFileError, match="Memory usage limit"):
        _read(tmp_path / "log")


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="No such file"), open_file(tmp_path / "none"):
        pass
    with pytest.raises(UnreadableFileError, match="is a directory"), open_file(tmp_path):
        pass


def test_zstd_that_needs_much_memory_is_rejected(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "log").write_bytes(compressor.compress(PLAIN) + compressor.flush())
    with pytest.raises(UnreadableFileError, match="too much memory"):
        _read(tmp_path / "log")


def test_zstd_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra that has it."""
    (tmp_path / "log").write_bytes(zstandard.compress(PLAIN))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UnreadableFileError, match=r"pip install 'otel-oom\[zstd\]'"):
        _read(tmp_path / "log")


def test_a_small_zstd_file_that_expands_without_end_costs_a_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(zstandard.compress(bytes(256 << 20)))
    tracemalloc.start()
    try:
        with open_file(tmp_path / "log") as (stream, _):
            assert stream.read(1 << 20) == bytes(1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 128 << 20


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_pipe_is_decompressed_too(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    packed = PACKERS[suffix](PLAIN) * 2
    # Open for reading, too: so opening does not wait for a reader.
    descriptor = os.open(tmp_path / "log", os.O_RDWR)
    os.write(descriptor, packed)
    with open_file(tmp_path / "log") as (stream, position):
        os.close(descriptor)
        assert b"".join(iter(lambda: stream.read(1000), b"")) == PLAIN * 2
        assert position() == 0


def test_journals_without_journalctl_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(UnreadableFileError, match="journalctl"),
        open_journals([tmp_path / "a.journal"]),
    ):
        pass


def test_kernel_logs_of_a_directory_are_selected(tmp_path: Path) -> None:
    logs = {
        "kern.log": b"",
        "kern.log.1": PLAIN,
        "kern.log.10.gz": gzip.compress(PLAIN),
        "kern.log.2.gz": gzip.compress(PLAIN),
        "messages-20231101": b"",
        "messages-20231108.xz": lzma.compress(PLAIN),
        "messages": b"",
        "syslog": b"nothing of the kernel's\n",
        "dmesg.0": b"",
        "sos/kernel.txt": "\n".join(dmesg_lines(KILL)).encode(),
        "sos/journal.json": "\n".join(format_json(journal_entries(KILL))).encode(),
        "sos/journal.export": format_export(journal_entries(KILL)),
        "journal/x/system@1.journal": b"",
        "auth.log": b"Nov 14 21:00:00 db1 sshd[1]: Killed process\n",
        "wtmp": bytes(1000),
    }
    for name, data in logs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.log").symlink_to(tmp_path / "kern.log.1")
    found = select_log_files([tmp_path])
    assert found.errors == ()
    assert [str(file.paths[0].relative_to(tmp_path)) for file in found.files] == [
        "journal/x/system@1.journal",
        "kern.log.10.gz",
        "kern.log.2.gz",
        "kern.log.1",
        "kern.log",
        "sos/kernel.txt",
        "messages-20231101",
        "messages-20231108.xz",
        "messages",
        "syslog",
        "dmesg.0",
        "sos/journal.export",
        "sos/journal.json",
    ]
    assert found.files[0].is_journal


def test_a_named_file_is_always_selected(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing")
    found = select_log_files([tmp_path / "x", STDIN, tmp_path / "none"])
    assert [file.paths[0] for file in found.files] == [STDIN, tmp_path / "x"]
    assert [file.path for file in found.files] == [None, tmp_path / "x"]
    assert "No such file" in found.errors[0]


@pytest.mark.root
def test_a_file_of_another_user_is_an_error(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "another user's file needs root")
    (tmp_path / "kern.log").write_bytes(PLAIN)
    (tmp_path / "kern.log").chmod(0)
    tmp_path.chmod(0o755)
    os.seteuid(65534)
    try:
        found = select_log_files([tmp_path])
    finally:
        os.seteuid(0)
    if not found.files:
        assert "Permission denied" in found.errors[0]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_on_a_terminal() -> None:
    output = _Terminal()
    now = 0.0
    progress = Progress(1000, output, lambda: now)
    progress.position = lambda: 500
    progress.kills = 3
    for _ in range(100):
        now += 0.01
        progress.add(1 << 20)
    shown = output.getvalue().split("\r\x1b[K")
    assert 9 <= len(shown) - 1 <= 11
    assert "50%" in shown[-1]
    assert "105 MB/s" in shown[-1]
    assert "3 kills" in shown[-1]
    progress.clear()
    assert output.getvalue().endswith("\r\x1b[K")


def test_progress_is_shown_on_terminals_only() -> None:
    output = io.StringIO()
    progress = Progress(1000, output)
    progress.add(1 << 20)
    progress.clear()
    assert output.getvalue() == ""


def test_a_rotated_file_ended_before_the_next_began(tmp_path: Path) -> None:
    at = 1_700_000_000  # 2023-11-14
    logs = {
        "messages.3": "Aug  1 10:00:00 db1 kernel: x\n",
        "messages.2": "Feb  1 10:00:00 db1 kernel: x\n",
        "messages.1": "Aug  1 10:00:00 db1 kernel: x\nDec  1 10:00:00 db1 kernel: y\n",
        "messages": "Jan  5 10:00:00 db1 kernel: x\n",
    }
    for name, text in logs.items():
        (tmp_path / name).write_text(text, encoding="ascii")
        os.utime(tmp_path / name, (at, at))
    files = select_log_files([tmp_path]).files
    assert [file.paths[0].name for file in files] == [*logs]
    years = [datetime.fromtimestamp(file.ended_unix_ns // 10**9, UTC).year for file in files]
    assert years == [2022, 2022, 2023, 2023]


def test_a_date_in_a_rotated_files_name_bounds_it(tmp_path: Path) -> None:
    (tmp_path / "messages-20200229.xz").write_bytes(lzma.compress(PLAIN))
    (tmp_path / "messages-20209999").write_bytes(PLAIN)
    dated, odd = select_log_files([tmp_path]).files
    assert datetime.fromtimestamp(dated.ended_unix_ns // 10**9, UTC).date() == date(2020, 3, 2)
    assert datetime.fromtimestamp(odd.ended_unix_ns // 10**9, UTC).year >= 2026
