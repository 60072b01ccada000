"""A curve in block characters."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from otel_oom.commands.elements import Curve

_WIDTH: Final = 42
"""As wide as a bar with its ends."""
_HEIGHT: Final = 5
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_STEPS: Final = len(_BLOCKS) - 1


def draw_curve(curve: Curve) -> Iterator[str]:
    """Yield the lines from the top, and the texts of the axis of time."""
    columns = [_highest(curve.points, n / _WIDTH, (n + 1) / _WIDTH) for n in range(_WIDTH)]
    levels = [round(max(0.0, min(1.0, share)) * _HEIGHT * _STEPS) for share in columns]
    for row in reversed(range(_HEIGHT)):
        yield "".join(
            _BLOCKS[max(0, min(_STEPS, level - row * _STEPS))] for level in levels
        ).rstrip()
    yield curve.begin + curve.end.rjust(_WIDTH - len(curve.begin))


def _highest(points: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """Return the highest share between two times: a column hides no peak."""
    inside = [share for time, share in points if begin <= time <= end]
    return max([*inside, _interpolate(points, begin), _interpolate(points, end)])


def _interpolate(points: Sequence[tuple[float, float]], time: float) -> float:
    number = bisect_right(points, time, key=lambda point: point[0])
    if number == 0:
        return 0.0
    if number == len(points):
        return points[-1][1]
    (begin, first), (end, last) = points[number - 1 : number + 1]
    return first + (last - first) * (time - begin) / (end - begin)
