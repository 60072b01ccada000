"""The running kernel's own names of gfp flags.

Their numbers differ between kernels. Each kernel has its own in the print format of the tracepoints
with such a mask, as pairs of a constant C expression and a name.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

FORMAT_FILES: Final = tuple(
    Path(root, "events/kmem/mm_page_alloc/format")
    for root in (
        *("/sys/kernel/tracing", "/sys/kernel/debug/tracing"),
        # A container with the host's processes has no tracefs of its own.
        "/proc/1/root/sys/kernel/tracing",
    )
)
_READ_CHARS: Final = 1 << 16
_MAX_EXPRESSION_CHARS: Final = 4096
"""Ten times the longest expression of 7.2."""

_TABLE: Final = re.compile(r'__print_flags\(REC->gfp_flags, "\|", (?P<pairs>.*?\})\s*\)')
_PAIR: Final = re.compile(r'\{\s*(?P<value>[^{}"]*?),\s*"(?P<name>\w+)"\s*\}')
_CAST: Final = re.compile(r"\(\s*(?:__force\s+)?(?:gfp_t|unsigned long|unsigned int)\s*\)|__force")
_SUFFIX: Final = re.compile(r"\b(0[xX][0-9a-fA-F]+|[0-9]+)[uUlL]+\b")
_BITS: Final = (1 << 64) - 1


class GfpFlagNames:
    """The names of this kernel's flags."""

    def __init__(self, formats: tuple[Path, ...] = FORMAT_FILES) -> None:
        """Read the first of ``formats`` that is readable.

        It has 4 KiB, which take the kernel a millisecond or two: so it is read ahead of a kill.
        """
        self._names = next((names for names in map(_read_names, formats) if names), [])

    def format_mask(self, mask: int) -> str | None:
        """Format ``mask`` like the kernel log: ``GFP_KERNEL|__GFP_NOFAIL``.

        As format_flags() of lib/vsprintf.c: each name whose bits are all set takes them away, and
        the rest is a number; a mask of 0 is an empty text. ``None`` where tracefs is not mounted.
        """
        if not self._names:
            return None
        words = []
        for bits, name in self._names:
            if not mask:
                break
            if mask & bits == bits:
                words.append(name)
                mask &= ~bits
        if mask:
            words.append(f"{mask:#x}")
        return "|".join(words)


def _read_names(path: Path) -> list[tuple[int, str]]:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return parse_flag_names(file.read(_READ_CHARS))
    except OSError:
        return []


def parse_flag_names(text: str) -> list[tuple[int, str]]:
    """Parse the flags of a tracepoint's ``format``, in its order; empty if it has no such table."""
    table = _TABLE.search(text)
    if not table:
        return []
    names = []
    for pair in _PAIR.finditer(table["pairs"]):
        try:
            value = evaluate_constant(pair["value"])
        except ValueError:
            continue
        if value:
            names.append((value, pair["name"]))
    return names


def evaluate_constant(expression: str) -> int:
    """Evaluate a constant expression of C to 64 bits: integers, ``| & << ~`` and casts.

    These operators have the same precedence in Python. Raises ValueError for any other form, and
    for an expression that is too long.
    """
    if len(expression) > _MAX_EXPRESSION_CHARS:
        raise ValueError(expression)
    source = _SUFFIX.sub(r"\1", _CAST.sub("", expression)).strip()
    try:
        return _evaluate(ast.parse(source, mode="eval").body) & _BITS
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(expression) from error


def _evaluate(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        return ~_evaluate(node.operand)
    if isinstance(node, ast.BinOp):
        left, right = _evaluate(node.left), _evaluate(node.right)
        if isinstance(node.op, ast.BitOr):
            return left | right
        if isinstance(node.op, ast.BitAnd):
            return left & right
        if isinstance(node.op, ast.LShift) and 0 <= right < _BITS.bit_length():
            return left << right & _BITS
    raise ValueError(ast.dump(node))
