"""How memory was asked for, by name: the running kernel's own names of its gfp flags.

Their numbers differ between kernels. Each kernel tells its own in the print format of the
tracepoints that have such a mask, as pairs of a constant expression and a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FORMATS: Final = tuple(
    Path(root, "events/kmem/mm_page_alloc/format")
    for root in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
)
_READ_CHARS: Final = 1 << 16

_TABLE: Final = re.compile(r'__print_flags\(REC->gfp_flags, "\|", (?P<pairs>.*?\})\s*\)')
_PAIR: Final = re.compile(r'\{\s*(?P<value>[^{}"]*?),\s*"(?P<name>\w+)"\s*\}')
_CAST: Final = re.compile(r"\(\s*(?:__force\s+)?(?:gfp_t|unsigned long|unsigned int)\s*\)|__force")
_TOKEN: Final = re.compile(r"\s*(?:(?P<number>0[xX][0-9a-fA-F]+|\d+)[uUlL]*|(?P<sign><<|[()|&~]))")
_BITS: Final = (1 << 64) - 1


class GfpFlagNames:
    """The names of this kernel's flags."""

    def __init__(self, formats: tuple[Path, ...] = FORMATS) -> None:
        """Take them from the first of ``formats`` that can be read.

        It is a file of 4 KiB, which takes the kernel a millisecond or two: so no kill waits for it.
        """
        self._names = next((names for names in map(_read, formats) if names), [])

    def flags(self, mask: int) -> str | None:
        """``mask`` as the kernel's log writes it: ``GFP_KERNEL|__GFP_NOFAIL``.

        As format_flags() of lib/vsprintf.c does: each name whose bits are all there takes them
        away; what no name is for stays a number; nothing is an empty text. ``None`` where tracefs
        is not mounted.
        """
        return decode(mask, self._names) if self._names else None


def decode(mask: int, names: list[tuple[int, str]]) -> str:
    """``mask`` by ``names``, in their order."""
    found = []
    for bits, name in names:
        if not mask:
            break
        if mask & bits == bits:
            found.append(name)
            mask &= ~bits
    if mask:
        found.append(f"{mask:#x}")
    return "|".join(found)


def _read(path: Path) -> list[tuple[int, str]]:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return names_of(file.read(_READ_CHARS))
    except OSError:
        return []


def names_of(text: str) -> list[tuple[int, str]]:
    """The flags in a tracepoint's ``format``, in its order; none if there is no such table."""
    table = _TABLE.search(text)
    if not table:
        return []
    names = []
    for pair in _PAIR.finditer(table["pairs"]):
        try:
            value = _value(_CAST.sub("", pair["value"]))
        except (ValueError, RecursionError):
            continue
        if value:
            names.append((value, pair["name"]))
    return names


def _value(expression: str) -> int:
    """A constant expression of C, as far as the kernel uses them here.

    Raises:
        ValueError: it is of another form.
    """
    tokens = list(_tokens(expression))
    value = _binary(tokens)
    if tokens:
        raise ValueError(expression)
    return value & _BITS


def _tokens(expression: str) -> Iterator[str]:
    at, end = 0, len(expression.rstrip())
    while at < end:
        token = _TOKEN.match(expression, at)
        if token is None:
            raise ValueError(expression)
        yield token["number"] or token["sign"]
        at = token.end()


# Binding the weakest first.
_LEVELS: Final = ("|", "&", "<<")


def _binary(tokens: list[str], level: int = 0) -> int:
    if level == len(_LEVELS):
        return _unary(tokens)
    value = _binary(tokens, level + 1)
    while tokens and tokens[0] == _LEVELS[level]:
        sign = tokens.pop(0)
        right = _binary(tokens, level + 1)
        if sign == "|":
            value |= right
        elif sign == "&":
            value &= right
        elif right < _BITS.bit_length():
            value = value << right & _BITS
        else:
            raise ValueError(right)
    return value


def _unary(tokens: list[str]) -> int:
    if not tokens:
        raise ValueError(tokens)
    sign = tokens.pop(0)
    if sign == "~":
        return ~_unary(tokens) & _BITS
    if sign == "(":
        value = _binary(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError(sign)
        return value
    return int(sign, 0)
