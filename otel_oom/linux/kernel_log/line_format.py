"""The pattern of a kernel log message, and how to build a value from its match."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from otel_oom.linux.kernel_log.line_types import LineType


class LineFormat(Struct, frozen=True):
    """A message format: a line that contains ``marker`` and matches ``pattern`` as a whole.

    ``build`` returns ``None`` for a line that only resembles the format.
    """

    marker: str
    pattern: re.Pattern[str]
    build: Callable[[re.Match[str]], LineType | None]


def compile_pattern(expression: str) -> re.Pattern[str]:
    """Compile an expression for :meth:`re.Pattern.fullmatch`.

    A name may contain a newline, and the kernel prints ASCII digits only.
    """
    return re.compile(expression, re.ASCII | re.DOTALL)
