"""A command line without its secrets.

What is one can't be known: names that say so, and the forms that tokens have. In doubt a word goes.
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

_CORE: Final = (
    r"(?:pass(?:wo?r?d|phrase)?|pwd|secret|token|api[-_.]?key|access[-_.]?key|"
    r"private[-_.]?key|auth\w*|bearer|credential|cookie|session|dsn|connection[-_.]?string|"
    r"signature|sig)s?[\w.-]*"
)
_NAME: Final = rf"[\w.-]*{_CORE}"
_OPTION: Final = re.compile(rf"-+{_NAME}", re.IGNORECASE)
_ASSIGNED: Final = re.compile(rf"(?P<name>-*{_NAME})(?P<sign>[=:]).*", re.IGNORECASE | re.DOTALL)
_INSIDE: Final = re.compile(rf"(?P<name>{_CORE})(?P<sign>=|:\s*|\s+(?!-))[^\s&;,]+", re.IGNORECASE)
_USER_INFO: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^\s@]*@", re.IGNORECASE)
_BEARER: Final = re.compile(r"\b(?P<kind>bearer|basic|digest)\s+\S+", re.IGNORECASE)
_TOKEN: Final = re.compile(
    r"eyJ[\w-]{8,}\.[\w.-]+"  # JSON Web Token
    r"|gh[a-z]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|A(?:KIA|SIA)[A-Z0-9]{12,}"
    r"|xox[a-z]-[\w-]{8,}|sk-[\w-]{16,}"
    r"|-----BEGIN [\w ]*PRIVATE KEY-----.*"
    r"|(?<=[=:])[A-Za-z0-9+/_-]{32,}={0,2}",
    re.DOTALL,
)
_SHORT: Final = re.compile(r"(?P<option>-p)\S+")
_WITH_SHORT: Final = re.compile(r"(?:.*/)?(?:mysql|mariadb|sshpass|mongo|7z)[\w-]*")


def scrubbed(words: Sequence[str]) -> tuple[str, ...]:
    """``words`` with ``***`` for what may be a secret, bounded in number and length."""
    result: list[str] = []
    hide_next = False
    short = bool(words) and _WITH_SHORT.fullmatch(words[0]) is not None
    for word in words[:_MOST_WORDS]:
        if hide_next:
            result.append(HIDDEN)
            hide_next = False
            continue
        hide_next = _OPTION.fullmatch(word) is not None
        result.append(_bounded(_word(word[:_READ_CHARS], short=short)))
    if len(words) > _MOST_WORDS:
        result.append("…")
    return tuple(result)


def _word(word: str, *, short: bool) -> str:
    if short and _SHORT.fullmatch(word):
        return f"-p{HIDDEN}"
    assigned = _ASSIGNED.fullmatch(word)
    if assigned:
        return f"{assigned['name']}{assigned['sign']}{HIDDEN}"
    word = _USER_INFO.sub(rf"\g<scheme>{HIDDEN}@", word)
    word = _BEARER.sub(rf"\g<kind> {HIDDEN}", word)
    word = _INSIDE.sub(rf"\g<name>\g<sign>{HIDDEN}", word)
    return _TOKEN.sub(HIDDEN, word)


def _bounded(word: str) -> str:
    return word if len(word) <= _WORD_CHARS else f"{word[:_WORD_CHARS]}…"
