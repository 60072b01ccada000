"""A curve as inline SVG, in the colours of the page."""

from __future__ import annotations

from typing import Final

from otel_oom.commands.elements import Curve
from otel_oom.commands.html.markup import Markup, tag

_WIDTH: Final = 1000
_HEIGHT: Final = 100
_GRID_SHARES: Final = (0.5, 0.75, 0.9)
_LINE: Final = "fill: none; vector-effect: non-scaling-stroke; stroke: var(--{}); stroke-width: {}"
_AXIS: Final = "display: flex; justify-content: space-between"


def render_curve(curve: Curve) -> Markup:
    """Return the curve between the texts of its height and of its time."""
    path = " ".join(
        f"{x * _WIDTH:.1f},{(1 - max(0.0, min(1.0, y))) * _HEIGHT:.1f}" for x, y in curve.points
    )
    first, last = curve.points[0][0] * _WIDTH, curve.points[-1][0] * _WIDTH
    area = f"{first:.1f},{_HEIGHT} {path} {last:.1f},{_HEIGHT}"
    shapes = (
        *(_line_at(share, "line", 1) for share in _GRID_SHARES),
        tag("polygon", points=area, style="fill: var(--fill); opacity: 0.25"),
        tag("polyline", points=path, style=_LINE.format("fill", 2)),
        _line_at(1.0, "alarm-fill", 2),
    )
    image = tag(
        "svg",
        shapes,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{curve.label} from {curve.begin} to {curve.end}, up to {curve.top}",
        style="display: block; width: 100%; height: 7rem; print-color-adjust: exact",
    )
    axis = tag("div", tag("span", curve.begin), tag("span", curve.end), style=_AXIS, class_="muted")
    head = tag("h3", f"{curve.label}, up to {curve.top}")
    return tag("div", head, image, axis, style="margin-top: 0.9rem")


def _line_at(share: float, colour: str, width: int) -> Markup:
    y = f"{(1 - share) * _HEIGHT:.1f}"
    return tag("polyline", points=f"0,{y} {_WIDTH},{y}", style=_LINE.format(colour, width))
