"""Words to settings to exit code: 0 done, 1 could not, 2 wrong use."""

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
from otel_oom.capture.source import PIN_DIR, CaptureError
from otel_oom.commands.history import options as history
from otel_oom.commands.options import add_state_dir
from otel_oom.commands.replay import options as replay
from otel_oom.config.state_dir import read_state_dir
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
        # Who closed the pipe (`… | head -1`) has read enough, and wants no message.
        if not isinstance(error, BrokenPipeError):
            _fail(error, 1)
        _drop_output()
        return 1


def _prepare_output() -> None:
    """See that there is an output (`>&-` closes it), and that no locale refuses our marks."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  for good
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what is still buffered go nowhere: the interpreter would complain of it as it ends."""
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


def _run(arguments: argparse.Namespace) -> int:
    from otel_oom.agent import service  # noqa: PLC0415  each command imports what it needs
    from otel_oom.capture import open_source  # noqa: PLC0415
    from otel_oom.config.agent import read_agent_config  # noqa: PLC0415

    config = read_agent_config(os.environ)
    source = open_source(
        arguments.source,
        want_command=arguments.command_line,
        pin_dir=None if arguments.no_pin else arguments.pin_dir,
    )
    service.run(source, config, arguments.state_dir, history=arguments.history)
    return 0


def _unpin(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.unpin import unpin  # noqa: PLC0415  each command imports what it needs

    return unpin(arguments.pin_dir)


def _demo(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.demo import demo  # noqa: PLC0415  each command imports what it needs

    return demo(as_json=arguments.json)


def _doctor(arguments: argparse.Namespace) -> int:
    from otel_oom.commands.doctor import doctor  # noqa: PLC0415  each command imports what it needs

    return doctor(as_json=arguments.json)


def _queue(arguments: argparse.Namespace) -> int:
    from otel_oom.commands import queue  # noqa: PLC0415  each command imports what it needs

    return queue.show(arguments.state_dir, as_json=arguments.json)


def _queue_resend(arguments: argparse.Namespace) -> int:
    from otel_oom.commands import queue  # noqa: PLC0415  as above

    return queue.resend(arguments.state_dir, arguments.uids)


def _queue_drop(arguments: argparse.Namespace) -> int:
    from otel_oom.commands import queue  # noqa: PLC0415  as above

    return queue.drop(arguments.state_dir, arguments.uids)


def _state_dir() -> Path:
    return read_state_dir(os.environ)


def _add_pin_dir(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument(
        "--pin-dir",
        type=Path,
        default=PIN_DIR,
        metavar="DIR",
        help=f"{what} (default: {PIN_DIR})",
    )


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; ``command`` in its result runs the chosen one."""
    parser = argparse.ArgumentParser(
        prog="otel-oom",
        description="Every OOM kill of this host as OpenTelemetry logs and spans.",
        epilog="Where to send is said by the OTEL_EXPORTER_OTLP_* variables.",
    )
    parser.add_argument("--version", action="version", version=f"otel-oom {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="the agent: capture and send until stopped")
    run.add_argument(
        "--source",
        choices=("auto", "libbpf", "bcc", "kmsg"),
        default="auto",
        help="where kills are read from (default: auto, the best that this host allows)",
    )
    what = "journal and outbox (default: $STATE_DIRECTORY, else /var/lib/otel-oom)"
    add_state_dir(run, _state_dir(), what)
    _add_pin_dir(run, "where the kernel side goes on while no agent runs, in bpffs")
    run.add_argument(
        "--no-pin",
        action="store_true",
        help="let the kernel side end with the agent (default: it outlives it)",
    )
    run.add_argument(
        "--command-line",
        action="store_true",
        help="tell the victim's command line too, less what looks like a secret (default: not)",
    )
    run.add_argument(
        "--no-history",
        dest="history",
        action="store_false",
        help="leave out the kills of this boot from before the agent was first started",
    )
    run.set_defaults(command=_run)

    unpin = commands.add_parser("unpin", help="end what goes on in the kernel while no agent runs")
    _add_pin_dir(unpin, "where it was pinned")
    unpin.set_defaults(command=_unpin)

    demo = commands.add_parser("demo", help="one real kill, from the kernel to OTLP, on screen")
    demo.add_argument("--json", action="store_true", help="print the telemetry as OTLP/JSON lines")
    demo.set_defaults(command=_demo)

    doctor = commands.add_parser(
        "doctor", help="what this host allows, and if the endpoint answers"
    )
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(command=_doctor)

    history.add_to(commands, _state_dir)
    replay.add_to(commands)

    queue = commands.add_parser("queue", help="what waits to be sent, and what was refused and why")
    queue.add_argument("--json", action="store_true", help="print it as JSON")
    add_state_dir(queue, _state_dir())
    queue.set_defaults(command=_queue)
    actions = queue.add_subparsers(metavar="ACTION")
    for name, command, what in (
        ("resend", _queue_resend, "send what was refused again"),
        ("drop", _queue_drop, "delete what was refused"),
    ):
        action = actions.add_parser(name, help=what)
        which = action.add_mutually_exclusive_group(required=True)
        which.add_argument("uids", nargs="*", default=[], metavar="UID", help="log.record.uid")
        which.add_argument("--all", action="store_true", help="all of them")
        # Where it is not given here, what stands before the action holds.
        action.add_argument(
            "--state-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR", help="as above"
        )
        action.set_defaults(command=command)
    return parser
