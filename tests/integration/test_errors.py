"""Wrong arguments, and an output that can't be written."""

from __future__ import annotations

import os

import pytest

from otel_oom import __version__
from tests.testlib.command import CompletedCommand, run_otel_oom


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "COMMAND"),
        (("observe",), "observe"),
        (("--colour", "doctor"), "--colour"),
        (("doctor", "--colour"), "--colour"),
        (("run", "--source", "dmesg"), "dmesg"),
        (("run", "--state-dir"), "--state-dir"),
    ],
)
def test_wrong_arguments(words: tuple[str, ...], named: str) -> None:
    """The message names what is wrong, with the usage; the exit code is 2."""
    done = run_otel_oom(*words)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert done.err.startswith("usage: otel-oom")
    assert named in done.err.splitlines()[-1]


def test_a_wrong_source_lists_the_valid_ones() -> None:
    message = run_otel_oom("run", "--source", "dmesg").err
    assert "auto" in message.splitlines()[-1]
    assert "libbpf" in message.splitlines()[-1]


def test_version() -> None:
    assert run_otel_oom("--version") == CompletedCommand(0, f"otel-oom {__version__}\n", "")


@pytest.mark.parametrize("word", ["doctor", "--help", "--version"])
def test_a_closed_pipe_is_no_error(word: str) -> None:
    """``otel-oom … | head -1`` prints nothing about the pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_otel_oom(word, stdout=writer)
    finally:
        os.close(writer)
    assert done.err == ""


def test_a_full_disk_below_stdout_is_reported() -> None:
    """The exit code is 1."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = run_otel_oom("doctor", stdout=full)
    finally:
        os.close(full)
    assert done.code == 1
    assert "No space left" in done.error_message()
    assert len(done.err.splitlines()) == 1


def test_a_closed_stdout_is_no_error() -> None:
    """The exit code still counts (``>&-``)."""
    done = run_otel_oom("--version", prefix=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert (done.code, done.err) == (0, "")
    assert run_otel_oom("doctor", prefix=("sh", "-c", 'exec "$@" >&-', "sh")).err == ""


def test_a_terminal_without_unicode_gets_escapes() -> None:
    """An output without ``✓`` gets an escape in its place."""
    done = run_otel_oom("doctor", env={"PYTHONIOENCODING": "ascii"})
    assert done.err == ""
    assert "\\u2713 kernel: Linux" in done.out
