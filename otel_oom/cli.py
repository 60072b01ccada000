"""The command line. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted by Ctrl-C."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from otel_oom import __version__
from otel_oom.agent.control_server import ControlError
from otel_oom.capture.source import CaptureError
from otel_oom.commands import demo, doctor, history, queue, replay, run, unpin
from otel_oom.config.variable import ConfigError
from otel_oom.store import StoreError

_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the console script's entry point."""
    _prepare_output()
    try:
        try:
            return _command(words)
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Closed pipe (`… | head -1`): exit quietly.
        if not isinstance(error, BrokenPipeError):
            _fail(error, 1)
        _drop_output()
        return 1


def _prepare_output() -> None:
    """Open an output if there is none (`>&-`), and escape what its encoding lacks."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for good
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Discard buffered output: the interpreter would report an error for it at exit."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _command(words: Sequence[str] | None) -> int:
    arguments = build_parser().parse_args(words)
    logging.basicConfig(
        format=_LOG_FORMAT, level=logging.INFO, stream=sys.stderr, datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    try:
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except ConfigError as error:
        return _fail(error, 2)
    except (CaptureError, ControlError, StoreError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return 130


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"otel-oom: {error}\n")
    return code


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; ``command`` in its result runs the chosen one."""
    parser = argparse.ArgumentParser(
        prog="otel-oom",
        description="Every OOM kill of this host as OpenTelemetry logs and spans.",
        epilog="Set the destination with OTEL_EXPORTER_OTLP_ENDPOINT (see docs/configuration.md).",
    )
    parser.add_argument("--version", action="version", version=f"otel-oom {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    for command in (run, unpin, demo, doctor, history, replay, queue):
        command.add_parser(subparsers)
    return parser
