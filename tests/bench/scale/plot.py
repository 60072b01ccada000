"""A plot of costs against sizes as SVG, with logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Final

from tests.bench.scale.growth import Cost, Dimension, decades, relative_points

_WIDTH: Final = 1000
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 560, 40, 340
_HEIGHT: Final = 400
_LEGEND_STEP: Final = 22
_COLOURS: Final = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f3c8d"),
)
_DASHES: Final = ("", "6 3", "2 3")
"""Beyond the colours, the lines differ in their dashes."""

_Scale = Callable[[float], float]


def draw_plot(dimension: Dimension) -> str:
    """Return the costs of a dimension, each against that of its smallest size, as SVG.

    A dashed line is linear growth. The same costs give the same bytes.
    """
    curves = [(cost, relative_points(cost.values)) for cost in dimension.costs]
    curves = [(cost, points) for cost, points in curves if len(points) > 1]
    sizes = [size for _, points in curves for size, _ in points]
    values = [value for _, points in curves for _, value in points]
    growth = max(sizes) / min(sizes)
    x_lines, y_lines = decades(min(sizes), max(sizes)), decades(min(values), max(*values, growth))
    x, y = _scale(x_lines, _LEFT, _RIGHT), _scale(y_lines, _BOTTOM, _TOP)
    shapes = [
        *_draw_axes(dimension.name, x_lines, y_lines, x, y),
        _line([(x(min(sizes)), y(1)), (x(max(sizes)), y(growth))], "#888888", "8 6", 1.5),
        _text(x(max(sizes)) + 6, y(growth) + 4, "linear", "#888888"),
    ]
    for number, (cost, points) in enumerate(curves):
        shapes += _draw_curve(number, cost, [(x(size), y(value)) for size, value in points])
    height = max(_HEIGHT, _TOP + _LEGEND_STEP * (len(curves) + 1))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f' font-family="sans-serif" font-size="13" aria-label="Costs by {escape(dimension.name)}">'
    )
    background = f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join((head, background, *shapes, "</svg>", ""))


def _scale(lines: Sequence[float], low: float, high: float) -> _Scale:
    first, last = math.log10(lines[0]), math.log10(lines[-1])
    return lambda value: low + (math.log10(value) - first) / (last - first) * (high - low)


def _draw_axes(
    name: str, x_lines: Sequence[float], y_lines: Sequence[float], x: _Scale, y: _Scale
) -> Iterator[str]:
    for value in x_lines:
        yield _line([(x(value), _TOP), (x(value), _BOTTOM)], "#dddddd")
        yield _text(x(value), _BOTTOM + 20, f"{value:,.0f}", anchor="middle")
    for value in y_lines:
        yield _line([(_LEFT, y(value)), (_RIGHT, y(value))], "#dddddd")
        yield _text(_LEFT - 8, y(value) + 4, f"{value:,g} \N{MULTIPLICATION SIGN}", anchor="end")
    yield _text((_LEFT + _RIGHT) / 2, _BOTTOM + 42, name, anchor="middle")
    yield _text(_LEFT, _TOP - 16, "cost against that of the smallest size")


def _draw_curve(number: int, cost: Cost, points: Sequence[tuple[float, float]]) -> Iterator[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    height = _TOP + _LEGEND_STEP * number
    yield _line(points, colour, dash, 2)
    yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    yield _line([(_RIGHT + 70, height), (_RIGHT + 94, height)], colour, dash, 2)
    yield _text(_RIGHT + 100, height + 4, cost.name.replace("`", ""))


def _line(
    points: Sequence[tuple[float, float]], colour: str, dash: str = "", width: float = 1
) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    stroke = f'stroke="{colour}" stroke-width="{width:g}"{dashes}'
    return f'<polyline points="{path}" fill="none" {stroke}/>'


def _text(x: float, y: float, text: str, colour: str = "#333333", anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{escape(text)}</text>'
