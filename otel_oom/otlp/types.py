"""Types of attributes."""

from __future__ import annotations

from collections.abc import Sequence

Value = str | int | float | bool | Sequence[str]
Attributes = dict[str, Value]
