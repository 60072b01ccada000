"""The command line. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted by Ctrl-C."""

from __future__ import annotations

import argparse
import gc
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from otel_oom import __version__

_MODULES: Final = {
    "run": "run",
    "unit": "unit",
    "unpin": "unpin",
    "demo": "demo",
    "doctor": "doctor",
    "events": "history",
    "show": "history",
    "report": "history",
    "replay": "replay",
    "queue": "queue",
}
"""Modules below :mod:`otel_oom.commands`, by command, in the order of the help."""
_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_DEFAULT_COLUMNS = 80


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
    words = sys.argv[1:] if words is None else words
    if words[:1] == ["run"]:
        # Imports leave no garbage; searching for it takes 4 ms until startup.run() is ready.
        gc.disable()
    _import_msgspec()
    arguments = build_parser(words[0] if words else "").parse_args(words)
    logging.basicConfig(
        format=_LOG_FORMAT, level=logging.INFO, stream=sys.stderr, datefmt="%Y-%m-%dT%H:%M:%S%z"
    )
    try:
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        return _fail(error, code)


def _import_msgspec() -> None:
    """Import msgspec without ``typing_extensions``, of which it prefers the functions.

    Those of ``typing`` are the same since Python 3.11. The import is a tenth of the agent's start.
    """
    if "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]
    try:
        import msgspec  # noqa: F401, PLC0415  as above
    finally:
        del sys.modules["typing_extensions"]


def _exit_code(error: Exception) -> int | None:
    """Return the exit code of an error that speaks for itself; ``None`` for one of the program."""
    # Imported here, for the agent is to start without them.
    from otel_oom.agent.control_server import ControlError  # noqa: PLC0415
    from otel_oom.capture.source import CaptureError  # noqa: PLC0415
    from otel_oom.config.variable import ConfigError  # noqa: PLC0415
    from otel_oom.store import StoreError  # noqa: PLC0415

    if isinstance(error, ConfigError):
        return 2
    return 1 if isinstance(error, CaptureError | ControlError | StoreError) else None


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"otel-oom: {error}\n")
    return code


class _HelpFormatter(argparse.HelpFormatter):
    """Help in the width of the terminal, without the import of ``shutil``.

    ``argparse`` creates a formatter for each argument. The import takes 0.4 MB of the agent's
    memory for compression.
    """

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
        except (OSError, ValueError):
            columns = 0
        super().__init__(prog, width=(columns or _DEFAULT_COLUMNS) - 2)


class _Parser(argparse.ArgumentParser):
    """A parser, also of each command, with the formatter above."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  argparse's own
        super().__init__(formatter_class=_HelpFormatter, **options)


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """Build the parser of ``command``, or of all if there is none of that name.

    ``command`` in its result runs the chosen one.
    """
    parser: argparse.ArgumentParser = _Parser(
        prog="otel-oom",
        description="Every OOM kill of this host as OpenTelemetry logs and spans.",
        epilog="Set the destination with OTEL_EXPORTER_OTLP_ENDPOINT (see docs/configuration.md).",
    )
    parser.add_argument("--version", action="version", version=f"otel-oom {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)

    names = [_MODULES[command]] if command in _MODULES else dict.fromkeys(_MODULES.values())
    for name in names:
        import_module(f"otel_oom.commands.{name}").add_parser(subparsers)
    return parser
