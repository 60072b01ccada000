"""The commands of the parser, for the pages that are generated from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_SUBPARSERS: Final = argparse._SubParsersAction  # noqa: SLF001  argparse has no public way in


@dataclass(frozen=True)
class Command:
    """A command with its arguments, as its ``--help`` has them."""

    name: str
    """All words, such as ``otel-oom queue drop``."""
    sentence: str
    arguments: tuple[tuple[str, str], ...]
    """The words of each argument, and its meaning."""


def list_commands(name: str, parser: argparse.ArgumentParser) -> Iterator[Command]:
    """Yield the commands below a parser, each before its own."""
    for action in parser._actions:  # noqa: SLF001  as above
        if isinstance(action, _SUBPARSERS):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001  as above
            for command, child in action.choices.items():
                text, words = helps[command], f"{name} {command}"
                yield Command(words, f"{text[:1].upper()}{text[1:]}.", tuple(_arguments(child)))
                yield from list_commands(words, child)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:  # noqa: SLF001  as above
        if not isinstance(action, (_SUBPARSERS, argparse._HelpAction)):  # noqa: SLF001  as above
            yield _words(action), action.help or ""


def _words(action: argparse.Action) -> str:
    value = action.metavar or (action.choices and f"{{{','.join(action.choices)}}}") or ""
    if not action.option_strings:
        return f"{value}{' …' if action.nargs in {'*', '+'} else ''}"
    return f"{', '.join(action.option_strings)} {value if action.nargs != 0 else ''}".strip()
