"""Fuzz a parser of untrusted files by libFuzzer, guided by coverage.

    python -m tests.fuzz TARGET [OPTION…] [FOLDER…]

The targets are those of ``tests/fuzz/targets``. New inputs go to the first folder; the kept corpus
is ``tests/fuzz/corpus/TARGET``. Options are those of libFuzzer, such as ``-max_total_time=300``. A
failing input is written to a file.
"""

from __future__ import annotations

import importlib
import sys

import atheris

from tests.fuzz.targets import TARGETS


def fuzz(arguments: list[str]) -> None:
    """Fuzz the target that the first argument names; the others are libFuzzer's."""
    program, target, *options = arguments
    if target not in TARGETS:
        sys.exit(f"There is no target {target}. Name one of these: {', '.join(TARGETS)}.")
    with atheris.instrument_imports(include=list(TARGETS[target])):
        module = importlib.import_module(f"tests.fuzz.targets.{target}")
    atheris.Setup([program, *options], module.check_input)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz(sys.argv)
