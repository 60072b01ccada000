"""Redaction of secrets in a command line.

Secrets are detected by option names and token formats; when in doubt, a word is redacted. A program
chooses its own words, so no expression here may backtrack over them: each has one way to match, or
possessive quantifiers (``*+``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

REDACTED: Final = "***"

_MAX_WORDS: Final = 64
_MAX_WORD_CHARS: Final = 256
_MAX_SEARCHED_CHARS: Final = 1024
"""More than is shown, so that a secret is detected although its end is not shown."""
_MAX_DEPTH: Final = 2

_SENSITIVE: Final = (
    r"(?:pass|pwd|secret|token|auth|bearer|credential|creds|cookie|session|dsn|signature|jwt|otp|"
    r"connection[-_. ]?string|conn[-_]?str|(?<![a-z])sig(?![a-z])|"
    r"key(?=s?(?:[-_.]?(?:id|base|data|value|file|path))?(?![a-z0-9])))"
)
_SENSITIVE_NAME: Final = re.compile(_SENSITIVE, re.IGNORECASE)
_ASSIGNMENT: Final = re.compile(
    r"(?P<name>[\"'{]*[\w.\[\]-]+[\"']?)(?P<sign>\s*+[=:]).+", re.DOTALL
)
_PLAIN_WORD: Final = re.compile(r"[\w.-]+")

_VALUE: Final = r"\\*+(?:\"[^\"]*+\"?|'[^']*+'?|[^\s&;\"']+)"
_SECRET_IN_TEXT: Final = re.compile(
    rf"(?P<name>{_SENSITIVE}[\w.\]-]*+[\\\"']*+)(?P<sign>\s*+[=:]+>?\s*+|\s++(?!-)){_VALUE}",
    re.IGNORECASE,
)
_USER_INFO: Final = re.compile(r"(?P<scheme>://|(?<![^\s=\"'])[^\s:@/]{1,64}+:(?!//))\S*@")
_AUTH_SCHEME: Final = re.compile(r"\b(?P<kind>bearer|basic|digest|negotiate)\s+\S+", re.IGNORECASE)
_TOKEN: Final = re.compile(
    r"eyJ[\w-]{8,}+[\w.=-]*+"  # JSON Web Token, or the beginning of one
    r"|gh[a-z]_\w{16,}+|github_pat_\w{16,}+|glpat-[\w-]{16,}+|npm_\w{16,}+|hvs\.[\w-]{16,}+"
    r"|A(?:KIA|SIA)[A-Z0-9]{12,}+|AIza[\w-]{20,}+|ya29\.[\w-]{16,}+"
    r"|xox[a-z]-[\w-]{8,}+|[sr]k[-_][\w-]{16,}+"
    r"|-----BEGIN.*+"
    r"|(?<=[=:])[A-Za-z0-9+/_-]{32,}+={0,2}",
    re.DOTALL,
)

_SHORT_OPTIONS: Final = (
    (re.compile(r"mysql|mariadb|sshpass|mongo|7z"), "p"),
    (re.compile(r"redis-cli|valkey-cli|keydb-cli"), "a"),
    (re.compile(r"curl|smbclient|rpcclient"), "uU"),
    (re.compile(r"zip|unzip|sqlcmd|bcp"), "P"),
    (re.compile(r"ldap|snmp"), "wAXc"),
    (re.compile(r"login"), "p"),  # docker login, az login and their like
)
"""Beginnings of program names, and the letters of their options for secrets."""

_LONG_OPTIONS: Final = frozenset({"--user", "--proxy-user"})
"""Options of curl with a password behind a colon; of other programs a user name, also redacted."""

_SCRIPT_PARTS: Final = re.compile(r"\s+|(?:\"[^\"]*+\"?|'[^']*+'?|[^\s\"']++)++")


def redact(words: Sequence[str]) -> tuple[str, ...]:
    """Replace each possible secret in ``words`` by ``***``.

    Returns at most 64 words and then ``…``; of a word at most 256 characters and then ``…``. Takes
    at most 0.25 s, whatever the words are.
    """
    searched = [word[:_MAX_SEARCHED_CHARS] for word in words[:_MAX_WORDS]]
    result = [
        word if len(word) <= _MAX_WORD_CHARS else f"{word[:_MAX_WORD_CHARS]}…"
        for word in _redact_words(searched, _MAX_DEPTH)
    ]
    if len(words) > _MAX_WORDS:
        result.append("…")
    return tuple(result)


def _redact_words(words: Sequence[str], depth: int) -> list[str]:
    letters = _secret_option_letters(words)
    result: list[str] = []
    hide = in_key = False
    for index, word in enumerate(words):
        # A key that a shell has split has no recognisable end.
        in_key = in_key or "-----BEGIN" in word
        if hide or in_key:
            result.append(REDACTED)
            # The word can be the next name instead of the value.
            hide = _hides_next(word, letters)
            continue
        hide = index > 0 and _hides_next(word, letters)
        if not word.startswith("-") and hide and index + 1 < len(words):
            # A name without a dash is that of a setting, or a plain word before an option.
            hide = not words[index + 1].startswith("-")
        result.append(_redact_word(word, letters, depth))
    return result


def _secret_option_letters(words: Sequence[str]) -> str:
    """Return the letters of the short options for secrets, of the programs in ``words``."""
    names = [word.rpartition("/")[2] for word in words]
    return "".join(
        letters for program, letters in _SHORT_OPTIONS if any(program.match(name) for name in names)
    )


def _hides_next(word: str, letters: str) -> bool:
    """Check if ``word`` is a name whose value is the next word."""
    if word in _LONG_OPTIONS or (len(word) == 2 and word[0] == "-" and word[1] in letters):  # noqa: PLR2004
        return True
    return _PLAIN_WORD.fullmatch(word) is not None and _SENSITIVE_NAME.search(word) is not None


def _redact_word(word: str, letters: str, depth: int) -> str:
    if len(word) > 2 and word[0] == "-" and word[1] in letters:  # noqa: PLR2004  an option
        return f"{word[:2]}{REDACTED}"
    named = _ASSIGNMENT.fullmatch(word)
    if named and (_SENSITIVE_NAME.search(named["name"]) or named["name"] in _LONG_OPTIONS):
        return f"{named['name']}{named['sign']}{REDACTED}"
    parts = _SCRIPT_PARTS.findall(word) if depth else []
    if len(parts) > 1:
        # A script: words of its own with spaces between them.
        redacted = iter(_redact_words([part for part in parts if not part.isspace()], depth - 1))
        word = "".join(part if part.isspace() else next(redacted) for part in parts)
    elif depth and word[:1] in {"'", '"'}:
        word = f"{word[0]}{_redact_word(word[1:], letters, depth - 1)}"
    word = _USER_INFO.sub(rf"\g<scheme>{REDACTED}@", word)
    word = _AUTH_SCHEME.sub(rf"\g<kind> {REDACTED}", word)
    word = _SECRET_IN_TEXT.sub(rf"\g<name>\g<sign>{REDACTED}", word)
    return _TOKEN.sub(REDACTED, word)
