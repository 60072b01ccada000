"""A command line without its secrets.

What is one can't be known: names that say so, and the forms that tokens have. In doubt a word
goes. A program chooses its own words, so that no expression here may go over them again and again:
each has one way to match, or gives nothing back (``*+``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

HIDDEN: Final = "***"

_MOST_WORDS: Final = 64
_WORD_CHARS: Final = 256
_READ_CHARS: Final = 1024
"""Behind what is shown, so that a secret is known as one though its end is not shown."""
_DEEPEST: Final = 2

_CORE: Final = (
    r"(?:pass|pwd|secret|token|auth|bearer|credential|creds|cookie|session|dsn|signature|jwt|otp|"
    r"connection[-_. ]?string|conn[-_]?str|(?<![a-z])sig(?![a-z])|"
    r"key(?=s?(?:[-_.]?(?:id|base|data|value|file|path))?(?![a-z0-9])))"
)
_NAME: Final = re.compile(_CORE, re.IGNORECASE)
_NAMED: Final = re.compile(r"(?P<name>[\"'{]*[\w.\[\]-]+[\"']?)(?P<sign>\s*+[=:]).+", re.DOTALL)
_WORD: Final = re.compile(r"[\w.-]+")

_VALUE: Final = r"\\*+(?:\"[^\"]*+\"?|'[^']*+'?|[^\s&;\"']+)"
_INSIDE: Final = re.compile(
    rf"(?P<name>{_CORE}[\w.\]-]*+[\\\"']*+)(?P<sign>\s*+[=:]+>?\s*+|\s++(?!-)){_VALUE}",
    re.IGNORECASE,
)
_USER_INFO: Final = re.compile(r"(?P<scheme>://|(?<![^\s=\"'])[^\s:@/]{1,64}+:(?!//))\S*@")
_SCHEME: Final = re.compile(r"\b(?P<kind>bearer|basic|digest|negotiate)\s+\S+", re.IGNORECASE)
_TOKEN: Final = re.compile(
    r"eyJ[\w-]{8,}+[\w.=-]*+"  # JSON Web Token, or the beginning of one
    r"|gh[a-z]_\w{16,}+|github_pat_\w{16,}+|glpat-[\w-]{16,}+|npm_\w{16,}+|hvs\.[\w-]{16,}+"
    r"|A(?:KIA|SIA)[A-Z0-9]{12,}+|AIza[\w-]{20,}+|ya29\.[\w-]{16,}+"
    r"|xox[a-z]-[\w-]{8,}+|[sr]k[-_][\w-]{16,}+"
    r"|-----BEGIN.*+"
    r"|(?<=[=:])[A-Za-z0-9+/_-]{32,}+={0,2}",
    re.DOTALL,
)

_SHORT: Final = (
    (re.compile(r"mysql|mariadb|sshpass|mongo|7z"), "p"),
    (re.compile(r"redis-cli|valkey-cli|keydb-cli"), "a"),
    (re.compile(r"curl|smbclient|rpcclient"), "uU"),
    (re.compile(r"zip|unzip|sqlcmd|bcp"), "P"),
    (re.compile(r"ldap|snmp"), "wAXc"),
    (re.compile(r"login"), "p"),  # docker login, az login and their like
)
"""Programs by how their names begin, and which letters are their options for secrets."""

_LONG: Final = frozenset({"--user", "--proxy-user"})
"""Of curl, with the password behind a colon; of others a mere name, which goes as well."""

_PARTS: Final = re.compile(r"\s+|(?:\"[^\"]*+\"?|'[^']*+'?|[^\s\"']++)++")


def redact(words: Sequence[str]) -> tuple[str, ...]:
    """``words`` with ``***`` for what may be a secret.

    At most 64 words and then ``…``; of a word at most 256 characters and then ``…``. Takes a
    quarter of a second at the very most, whatever the words are.
    """
    read = [word[:_READ_CHARS] for word in words[:_MOST_WORDS]]
    result = [_bounded(word) for word in _scrubbed(read, _DEEPEST)]
    if len(words) > _MOST_WORDS:
        result.append("…")
    return tuple(result)


def _scrubbed(words: Sequence[str], depth: int) -> list[str]:
    letters = _letters(words)
    result: list[str] = []
    hide = in_key = False
    for at, word in enumerate(words):
        # A key that a shell has taken apart, of which no end is to be told.
        in_key = in_key or "-----BEGIN" in word
        if hide or in_key:
            result.append(HIDDEN)
            # It may be no value, but the next name.
            hide = _hides_next(word, letters)
            continue
        hide = at > 0 and _hides_next(word, letters)
        if not word.startswith("-") and hide and at + 1 < len(words):
            # A name without a dash is a setting's, or a mere word before an option.
            hide = not words[at + 1].startswith("-")
        result.append(_word(word, letters, depth))
    return result


def _letters(words: Sequence[str]) -> str:
    """The short options for secrets of the programs named there."""
    names = [word.rpartition("/")[2] for word in words]
    return "".join(
        letters for program, letters in _SHORT if any(program.match(name) for name in names)
    )


def _hides_next(word: str, letters: str) -> bool:
    """Whether it is a name whose value is the next word."""
    if word in _LONG or (len(word) == 2 and word[0] == "-" and word[1] in letters):  # noqa: PLR2004
        return True
    return _WORD.fullmatch(word) is not None and _NAME.search(word) is not None


def _word(word: str, letters: str, depth: int) -> str:
    if len(word) > 2 and word[0] == "-" and word[1] in letters:  # noqa: PLR2004  an option
        return f"{word[:2]}{HIDDEN}"
    named = _NAMED.fullmatch(word)
    if named and (_NAME.search(named["name"]) or named["name"] in _LONG):
        return f"{named['name']}{named['sign']}{HIDDEN}"
    parts = _PARTS.findall(word) if depth else []
    if len(parts) > 1:
        # A script: its own words, with the spaces between them.
        own = iter(_scrubbed([part for part in parts if not part.isspace()], depth - 1))
        word = "".join(part if part.isspace() else next(own) for part in parts)
    elif depth and word[:1] in {"'", '"'}:
        word = f"{word[0]}{_word(word[1:], letters, depth - 1)}"
    word = _USER_INFO.sub(rf"\g<scheme>{HIDDEN}@", word)
    word = _SCHEME.sub(rf"\g<kind> {HIDDEN}", word)
    word = _INSIDE.sub(rf"\g<name>\g<sign>{HIDDEN}", word)
    return _TOKEN.sub(HIDDEN, word)


def _bounded(word: str) -> str:
    return word if len(word) <= _WORD_CHARS else f"{word[:_WORD_CHARS]}…"
