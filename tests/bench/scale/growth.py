"""Costs against sizes: how they grow, and the table of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

LINEAR: Final = 1.0
MARGIN: Final = 0.15
"""A larger exponent than linear growth by this much is faster than linear, and no noise."""


class Cost(Struct, frozen=True):
    """A cost by size, such as the milliseconds of a kill by the number of cgroups.

    ``bound`` says what limits it, if anything does.
    """

    name: str
    unit: str
    values: Mapping[int, float]
    bound: str = ""


class Dimension(Struct, frozen=True):
    """Something that grows, by its name in the plural, with its costs."""

    name: str
    costs: Sequence[Cost]


def growth_exponent(values: Mapping[int, float]) -> float | None:
    """Return the slope of the last step on logarithmic axes; ``None`` if it has none.

    0 is a constant cost, 1 a linear one. The last step is that between the two largest sizes, where
    what is constant counts least.
    """
    points = sorted(values.items())[-2:]
    (small, before), (large, after) = points if len(points) == len("xy") else ((0, 0.0), (0, 0.0))
    if small <= 0 or before <= 0 or after <= 0:
        return None
    return math.log(after / before) / math.log(large / small)


def fast_costs(dimension: Dimension) -> list[str]:
    """Return the names of costs that grow faster than linearly."""
    exponents = ((cost.name, growth_exponent(cost.values)) for cost in dimension.costs)
    return [name for name, value in exponents if value is not None and value > LINEAR + MARGIN]


def format_table(dimension: Dimension) -> str:
    """Return the table of a dimension in Markdown, and a sentence on what grows too fast."""
    sizes = sorted({size for cost in dimension.costs for size in cost.values})
    head = (dimension.name, *(f"{size:,}" for size in sizes), "exponent", "bound")
    rows = [
        (
            f"{cost.name}, {cost.unit}" if cost.unit else cost.name,
            *(format_value(cost.values.get(size)) for size in sizes),
            format_exponent(growth_exponent(cost.values)),
            cost.bound,
        )
        for cost in dimension.costs
    ]
    lines = [_row(head), "|---|" + "---:|" * (len(sizes) + 1) + "---|", *map(_row, rows)]
    fast = ", ".join(fast_costs(dimension)) or "nothing"
    return "\n".join((*lines, "", f"Faster than linear: {fast}."))


def format_value(value: float | None) -> str:
    """Return a value with three digits, without an exponent of ten."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def format_exponent(value: float | None) -> str:
    """Return an exponent with two digits; nothing for ``None``."""
    # Without a sign of zero.
    return "" if value is None else f"{round(value, 2) + 0.0:.2f}"


def relative_points(values: Mapping[int, float]) -> list[tuple[int, float]]:
    """Return each size with its cost against that of the smallest size."""
    points = [(size, value) for size, value in sorted(values.items()) if value > 0]
    return [(size, value / points[0][1]) for size, value in points]


def decades(low: float, high: float) -> list[float]:
    """Return the powers of ten around two positive numbers, as the lines of an axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
