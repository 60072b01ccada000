"""How a line of the kernel's log is matched: from its first to its last character."""

from __future__ import annotations

import re


def pattern(expression: str) -> re.Pattern[str]:
    """A compiled expression for :meth:`re.Pattern.fullmatch`.

    A name may hold a newline, and digits of other scripts are none of the kernel's.
    """
    return re.compile(expression, re.ASCII | re.DOTALL)
