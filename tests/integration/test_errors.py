"""Wrong words, and an output that does not take what is written."""

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
def test_wrong_words_are_wrong_use(words: tuple[str, ...], named: str) -> None:
    """What is wrong is named next to the usage, and the exit code is 2."""
    done = run_otel_oom(*words)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    assert done.err.startswith("usage: otel-oom")
    assert named in done.err.splitlines()[-1]


def test_a_wrong_source_is_told_the_right_ones() -> None:
    """The names that ``--source`` takes are in the message."""
    message = run_otel_oom("run", "--source", "dmesg").err
    assert "auto" in message.splitlines()[-1]
    assert "libbpf" in message.splitlines()[-1]


def test_the_version_is_told() -> None:
    """``--version`` prints it on stdout, and nothing else."""
    assert run_otel_oom("--version") == CompletedCommand(0, f"otel-oom {__version__}\n", "")


@pytest.mark.parametrize("word", ["doctor", "--help", "--version"])
def test_a_reader_that_has_gone_is_no_error(word: str) -> None:
    """``otel-oom … | head -1`` says nothing about the pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_otel_oom(word, stdout=writer)
    finally:
        os.close(writer)
    assert done.err == ""


def test_a_full_disk_below_the_output_is_told() -> None:
    """What could not be written is not passed over: the reason is told, and the exit code is 1."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = run_otel_oom("doctor", stdout=full)
    finally:
        os.close(full)
    assert done.code == 1
    assert "No space left" in done.error_message()
    assert len(done.err.splitlines()) == 1


def test_no_output_at_all_is_no_error() -> None:
    """With stdout closed (``>&-``) the exit code still tells."""
    done = run_otel_oom("--version", prefix=("sh", "-c", 'exec "$@" >&-', "sh"))
    assert (done.code, done.err) == (0, "")
    assert run_otel_oom("doctor", prefix=("sh", "-c", 'exec "$@" >&-', "sh")).err == ""


def test_a_terminal_without_unicode_is_written_to() -> None:
    """An output that has no ``✓`` gets an escape in its place."""
    done = run_otel_oom("doctor", env={"PYTHONIOENCODING": "ascii"})
    assert done.err == ""
    assert "\\u2713 kernel: Linux" in done.out
