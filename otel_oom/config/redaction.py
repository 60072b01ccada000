"""Redaction of URLs and other values that may contain secrets.

An endpoint's user, path, query and fragment can each be an API key, and so can the values of its
headers. A backend or proxy may echo any of them.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import unquote, urlsplit

_MAX_VALUE_CHARS: Final = 200
_MAX_ADDRESS_CHARS: Final = 255
_MIN_SECRET_CHARS: Final = 4
_MASK: Final = "[redacted]"

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_AFTER_AUTHORITY: Final = re.compile(r"[/?#\\\s]")
_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.]*\]?|[^:&=;,%\"'<>{}|^`\[\]@\x00-\x1f\x7f]*")
ADDRESS: Final = re.compile(rf"(?:{_HOST.pattern})(?::[0-9]{{1,6}})?")
"""Host and port of a URL, without the delimiters that a resolver would take for a host's name."""
_HARMLESS: Final = re.compile(rf"(?!.*://)[^@?&=]{{1,{_MAX_VALUE_CHARS}}}", re.DOTALL)


def redact_url(url: str) -> str:
    """Return scheme, host and port of a URL, which may be malformed.

    A part that may belong to a password is left out.
    """
    scheme = _SCHEME.match(url)
    prefix = scheme[0] if scheme else ""
    authority, *rest = _AFTER_AUTHORITY.split(url[len(prefix) :], maxsplit=1)
    if "@" in "".join(rest):
        # A password with an unescaped delimiter, or else a path or query with an @.
        if ADDRESS.fullmatch(authority):
            return prefix
        authority = _AFTER_AUTHORITY.split(rest[0].rpartition("@")[2], maxsplit=1)[0]
    _, _, address = authority.rpartition("@")
    match = ADDRESS.fullmatch(address) or _HOST.match(address)
    return prefix + match[0][:_MAX_ADDRESS_CHARS] if match else prefix


def redact_value(text: str) -> str:
    """Return the text of a variable that is neither a URL nor a list; empty if it may be secret."""
    return text if _HARMLESS.fullmatch(text) else ""


def url_secrets(url: str, public_path: str) -> Iterator[str]:
    """Yield what may be secret in the path and the query, apart from ``public_path``."""
    parts = urlsplit(url)
    path = parts.path.removesuffix(public_path)
    yield path
    yield from (segment for segment in path.split("/") if any(map(str.isdigit, segment)))
    yield parts.query
    for pair in parts.query.split("&"):
        value = pair.partition("=")[2] or pair
        yield from (value, unquote(value))


def header_secrets(values: Iterable[str]) -> Iterator[str]:
    """Yield what may be secret in values of headers, also decoded (RFC 7617)."""
    for value in values:
        yield value
        scheme, _, credentials = value.partition(" ")
        yield credentials
        if scheme == "Basic":
            with suppress(ValueError):
                user = a2b_base64(credentials).decode()
                yield from (user, user.partition(":")[2])


def redact_secrets(text: str, secrets: Iterable[str]) -> str:
    """Replace all ``secrets`` of at least four characters in a text of another party."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARS:
            text = text.replace(secret, _MASK)
    return text
