"""The code around the measurement of growth: exponents, table, plot, sizes."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tests.bench.scale.__main__ import describe_run, limit_sizes
from tests.bench.scale.growth import (
    Cost,
    Dimension,
    decades,
    fast_costs,
    format_table,
    format_value,
    growth_exponent,
    relative_points,
)
from tests.bench.scale.plot import draw_plot

SIZES = (100, 1000, 10_000)
EVENTS = Dimension(
    "events",
    (
        Cost("constant", "ms", dict.fromkeys(SIZES, 5.0)),
        Cost("linear", "s", {size: size / 100 for size in SIZES}, "disk"),
        Cost("quadratic <&>", "s", {size: size**2 / 1e4 for size in SIZES}),
        Cost("lost", "", dict.fromkeys(SIZES, 0.0)),
    ),
)


@pytest.mark.parametrize(
    ("values", "exponent"),
    [
        ({10: 4.0, 100: 4.0}, 0),
        ({10: 4.0, 100: 40.0}, 1),
        ({10: 4.0, 100: 400.0}, 2),
        ({10: 4.0, 100: 0.4}, -1),
        ({1: 100.0, 10: 101.0, 100: 1010.0}, 1),
    ],
)
def test_the_exponent_is_that_of_the_last_step(values: dict[int, float], exponent: float) -> None:
    """What is constant hides the growth among small sizes."""
    assert growth_exponent(values) == pytest.approx(exponent, abs=0.01)


@pytest.mark.parametrize("values", [{}, {10: 4.0}, {10: 0.0, 100: 4.0}, {10: 4.0, 100: 0.0}])
def test_without_two_costs_there_is_no_exponent(values: dict[int, float]) -> None:
    assert growth_exponent(values) is None


def test_the_table_has_each_size_and_what_is_faster_than_linear() -> None:
    assert format_table(EVENTS).splitlines() == [
        "| events | 100 | 1,000 | 10,000 | exponent | bound |",
        "|---|---:|---:|---:|---:|---|",
        "| constant, ms | 5.00 | 5.00 | 5.00 | 0.00 |  |",
        "| linear, s | 1.00 | 10.0 | 100 | 1.00 | disk |",
        "| quadratic <&>, s | 1.00 | 100 | 10,000 | 2.00 |  |",
        "| lost | 0 | 0 | 0 |  |  |",
        "",
        "Faster than linear: quadratic <&>.",
    ]
    assert fast_costs(Dimension("events", EVENTS.costs[:2])) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0"), (0.00123, "0.00123"), (99.96, "100.0"), (1234567.8, "1,234,568")],
)
def test_values_have_three_digits(value: float | None, text: str) -> None:
    assert format_value(value) == text


def test_a_plot_is_relative_to_the_smallest_size() -> None:
    assert relative_points({100: 2.0, 10: 0.5, 1000: 0.0}) == [(10, 1.0), (100, 4.0)]
    assert decades(100, 10_000) == [100, 1000, 10_000]
    assert decades(0.5, 3) == [0.1, 1, 10]


def test_a_plot_is_svg_with_one_curve_for_each_cost_that_has_points() -> None:
    """The same costs give the same bytes. Names are escaped."""
    plot = draw_plot(EVENTS)
    assert plot == draw_plot(EVENTS)
    root = ET.fromstring(plot)  # noqa: S314  our own
    texts = [element.text for element in root.findall(".//{*}text")]
    assert {"constant", "linear", "quadratic <&>", "10,000", "events"} <= {*texts}
    assert "lost" not in texts
    assert len(root.findall(".//{*}circle")) == 3 * len(SIZES)


def test_a_curve_rises_with_its_cost() -> None:
    """In SVG a larger y is lower. The linear cost lies on the line of linear growth."""
    root = ET.fromstring(draw_plot(Dimension("events", (EVENTS.costs[1],))))  # noqa: S314  likewise
    heights = [float(circle.attrib["cy"]) for circle in root.findall(".//{*}circle")]
    assert heights == sorted(heights, reverse=True)
    lines = [line.attrib["points"].split() for line in root.findall(".//{*}polyline")]
    linear = [
        line.attrib["points"]
        for line in root.findall(".//{*}polyline")
        if "8 6" in str(line.attrib)
    ]
    curve = next(points for points in lines if len(points) == len(SIZES))
    assert linear == [f"{curve[0]} {curve[-1]}"]


def test_sizes_are_limited_to_two_at_least() -> None:
    assert limit_sizes(SIZES, None) == SIZES
    assert limit_sizes(SIZES, 1000) == [100, 1000]
    assert limit_sizes(SIZES, 1) == [100, 1000]
    assert limit_sizes(SIZES, 10_000) == [*SIZES]


def test_a_table_names_the_series_of_the_kernel_that_was_measured() -> None:
    machine = {"date": "2026-01-02", "kernel": "6.18.44-x", "cpu": "2 x Y", "python": "3.11"}
    assert describe_run("storm", machine) == "2026-01-02, kernel 6.18, 2 x Y, CPython 3.11:"
    assert "kernel 6.1," in describe_run("cpus", machine)
