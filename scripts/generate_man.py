"""Write the man page and the completions of bash and zsh, all from the parser.

python -m scripts.generate_man FOLDER
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import shtab

from otel_oom import __version__, cli
from scripts.command_line import Command, list_commands

ROOT: Final = Path(__file__).parents[1]
MAN_PAGE: Final = "otel-oom.8"
COMPLETIONS: Final = {"bash": "otel-oom", "zsh": "_otel-oom"}
"""The file of each shell, by the name under which the shell looks for it."""

_SUMMARY: Final = "OOM kills of this host as OpenTelemetry logs and spans"
_PINS: Final = (
    "BPF programs that capture while no agent runs. `otel-oom unpin` removes them, and so does "
    "the removal of the package."
)
_FILES: Final = (
    ("/etc/default/otel-oom", "Variables of the service."),
    ("/var/lib/otel-oom", "Events, outbox and dead letters. Purging the package deletes them."),
    ("/sys/fs/bpf/otel-oom", _PINS),
)
_EXIT_STATUS: Final = (
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "Wrong use, or an invalid variable."),
    ("130", "Interrupted by Ctrl-C."),
)


def main() -> int:
    """Write all three into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MAN_PAGE).write_text(render_man_page(), encoding="utf-8")
    for shell, name in COMPLETIONS.items():
        (folder / name).write_text(render_completion(shell), encoding="utf-8")
    return 0


def render_man_page() -> str:
    """Return the page in the man(7) macros: commands, files, variables, exit status."""
    return "\n".join(_page()) + "\n"


def render_completion(shell: str) -> str:
    """Return the completion for ``bash`` or ``zsh``; files and folders are completed as such."""
    parser = cli.build_parser()
    _mark_paths(parser)
    return f"{shtab.complete(parser, shell=shell)}\n"


def _page() -> Iterator[str]:
    parser = cli.build_parser()
    yield f'.TH OTEL\\-OOM 8 "" "otel\\-oom {__version__}" "System administration"'
    yield from (".SH NAME", rf"otel\-oom \- {_SUMMARY}")
    yield from (".SH SYNOPSIS", r".B otel\-oom", ".I COMMAND", "[...]")
    yield from (".SH DESCRIPTION", _escape(parser.description or ""))
    yield from (".PP", "Each command has")
    yield r".BR \-\-help ."
    yield ".SH COMMANDS"
    for command in list_commands("otel-oom", parser):
        yield from _command(command)
    yield ".SH ENVIRONMENT"
    yield from _entries(_variables())
    yield from (".SH FILES", *_entries(_FILES), ".SH EXIT STATUS", *_entries(_EXIT_STATUS))
    yield from (".SH SEE ALSO", ".BR systemd.service (5),", ".BR bpf (2),", ".BR proc (5)")


def _command(command: Command) -> Iterator[str]:
    yield from (f".SS {_escape(command.name)}", _escape(command.sentence))
    yield from _entries(command.arguments)


def _entries(entries: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for term, text in entries:
        yield from (".TP", f'.B "{_escape(term)}"', _escape(text))


def _variables() -> tuple[tuple[str, str], ...]:
    """Return the variables with their meanings, by the tables of docs/configuration.md."""
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (`[A-Z_`, ]+`) \| (.+?) \| (.+?) \|$", page)
    return tuple(
        (names.replace("`", ""), f"{_plain(meaning)} (default: {_plain(default)})")
        for names, default, meaning in rows
    )


def _plain(markdown: str) -> str:
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown).replace("`", "")


def _escape(text: str) -> str:
    """Escape what roff would interpret; a request begins with a dot or a quote."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return rf"\&{text}" if text[:1] in {".", "'"} else text


def _mark_paths(parser: argparse.ArgumentParser) -> None:
    """Mark the arguments that are paths, as shtab wants it."""
    kinds = {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE}
    for action in parser._actions:  # noqa: SLF001  argparse has no public way in
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  likewise
            for child in action.choices.values():
                _mark_paths(child)
        elif action.metavar in kinds:
            action.complete = kinds[action.metavar]  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
