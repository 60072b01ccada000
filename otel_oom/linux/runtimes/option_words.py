"""The words of a command line that are options of an interpreter, not of the program it runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

_INTERPRETERS: Final = frozenset({"java", "node", "nodejs"})
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash"})
_MAX_WRAPPER_WORDS: Final = 8
"""``tini -- java …``: as many words may come before the interpreter."""
_MAX_WORDS: Final = 1024
_MAX_SCRIPT_CHARS: Final = 4096

_WORD: Final = re.compile(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""")
_QUOTED: Final = re.compile(r"""["']([^"']*)["']""")

_WITH_VALUE: Final = frozenset(
    {
        # Of the launcher of Java:
        *("-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path"),
        *("--add-modules", "--limit-modules", "--add-reads", "--add-exports", "--add-opens"),
        *("--patch-module", "--enable-native-access", "-d", "--describe-module", "--source"),
        # Of Node.js, besides -p:
        *("-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"),
        *("-e", "--eval", "--print", "--title"),
    }
)
"""Options whose value is the next word."""


class Program(NamedTuple):
    """The words after the name of a program."""

    words: Sequence[str]
    is_interpreter: bool


def split_words(text: str) -> list[str]:
    """Split at white space outside of quotes, as ``JAVA_TOOL_OPTIONS`` is split by the JVM.

    Nothing is escaped. A quote that does not end is a separator.
    """
    return [_QUOTED.sub(r"\1", word) for word in _WORD.findall(text)]


def find_program(argv: Sequence[str]) -> Program:
    """Return the words after an interpreter's name, else after the first word.

    Before it there may be wrappers, such as an init of containers, or a shell with one command.
    """
    words = list(argv[:_MAX_WORDS])
    if len(words) > 2 and _base_name(words[0]) in _SHELLS and words[1] == "-c":  # noqa: PLR2004
        words = split_words(words[2][:_MAX_SCRIPT_CHARS])
    for index, word in enumerate(words[:_MAX_WRAPPER_WORDS]):
        if _base_name(word) in _INTERPRETERS:
            return Program(words[index + 1 :], is_interpreter=True)
    return Program(words[1:], is_interpreter=False)


def list_own_options(program: Program) -> list[str]:
    """Return the options before the first word that is none: a class, a script, or ``-jar``."""
    options: list[str] = []
    is_value = False
    for word in program.words:
        if is_value:
            is_value = False
        elif not word.startswith(("-", "@")) or word in {"--", "-jar", "-m", "--module"}:
            break
        else:
            options.append(word)
            is_value = word in _WITH_VALUE
    return options


def _base_name(path: str) -> str:
    return path.rpartition("/")[2]
