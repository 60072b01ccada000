"""`make bench-scale`: measure what grows, and print it or write docs/scale.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.bench.agent import describe_machine
from tests.bench.scale import cgroups, cpus, journal, processes, storm
from tests.bench.scale.growth import Dimension, format_table
from tests.bench.scale.plot import draw_plot
from tests.testlib.page_block import write_block
from tests.testlib.repository import REPOSITORY

_Measure = Callable[[Sequence[int]], Dimension]

_PARTS: Final[Mapping[str, tuple[_Measure, Sequence[int]]]] = {
    "cgroups": (cgroups.measure_cgroups, cgroups.SIZES),
    "processes": (processes.measure_processes, processes.SIZES),
    "storm": (storm.measure_storm, storm.SIZES),
    "cpus": (cpus.measure_cpus, cpus.SIZES),
    "journal": (journal.measure_journal, journal.SIZES),
}
_PAGE: Final = REPOSITORY / "docs/scale.md"
_PICTURES: Final = REPOSITORY / "docs/pictures"


def main() -> int:
    """Measure all parts, or those that are named; print a table of each."""
    parser = argparse.ArgumentParser(prog="bench-scale", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/scale.md and its plots")
    parser.add_argument("--size", type=int, help="the largest size of each part", default=None)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(_PARTS)}")
    arguments = parser.parse_args()
    if unknown := {*arguments.parts} - {*_PARTS}:
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    if arguments.write and arguments.size:
        parser.error("only a run with all sizes is written")
    for name in arguments.parts or _PARTS:
        measure, sizes = _PARTS[name]
        dimension = measure(limit_sizes(sizes, arguments.size))
        text = f"{describe_run(name, describe_machine())}\n\n{format_table(dimension)}"
        print(f"\n{text}", flush=True)
        if arguments.write:
            _write(name, dimension, text)
    return 0


def limit_sizes(sizes: Sequence[int], largest: int | None) -> Sequence[int]:
    """Return the sizes up to the largest one, the two smallest at least."""
    few = sizes[:2]
    return sizes if largest is None else [*few, *(size for size in sizes[2:] if size <= largest)]


def describe_run(name: str, machine: Mapping[str, str]) -> str:
    """Return the heading of the table of a part: the date, the kernel and the machine."""
    series = ".".join(machine["kernel"].split(".")[:2])
    kernel = f"emulated guests with kernel {cpus.KERNEL}" if name == "cpus" else f"kernel {series}"
    return f"{machine['date']}, {kernel}, {machine['cpu']}, CPython {machine['python']}:"


def _write(name: str, dimension: Dimension, text: str) -> None:
    """Write the table of a part, and its plot."""
    picture = f"scale-{name}.svg"
    (_PICTURES / picture).write_text(draw_plot(dimension), encoding="utf-8")
    image = f"![Costs by {dimension.name}](pictures/{picture})"
    write_block(_PAGE, f"bench-scale-{name}", f"{text}\n\n{image}")


if __name__ == "__main__":
    sys.exit(main())
