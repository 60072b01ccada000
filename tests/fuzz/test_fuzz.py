"""Any bytes as a kernel log: nothing is raised, no line is two kills, memory is bounded."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from tests.fuzz.target import check_log
from tests.testlib.require import require

CORPUS = Path(__file__).with_name("corpus")
DICTIONARY = Path(__file__).with_name("kernel_log.dict")

RUNS = 3000
BOUND = 8 << 20
"""Sixteen threads, each with a report of 32 KiB, its rows, and Python's overhead."""


@pytest.mark.parametrize("seed", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_inputs_of_the_corpus(seed: Path) -> None:
    check_log(seed.read_bytes())


def test_new_inputs_break_nothing(tmp_path: Path) -> None:
    """A short run guided by coverage; `python -m tests.fuzz` makes a long one."""
    require(importlib.util.find_spec("atheris"), "atheris is missing; run scripts/setup test")
    new_inputs = tmp_path / "new"
    new_inputs.mkdir()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz", f"-runs={RUNS}", "-max_len=4096", "-timeout=60"),
            *(f"-dict={DICTIONARY}", f"-artifact_prefix={tmp_path}/", new_inputs, CORPUS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]


def test_memory_of_the_parser_is_bounded() -> None:
    """A hundred thousand lines, spliced of all that begins or continues an event."""
    chance = random.Random(7)  # noqa: S311  the same lines at each run
    seeds = [seed.read_bytes().decode(errors="backslashreplace") for seed in CORPUS.iterdir()]
    texts = [line for text in seeds for line in text.split("\n")]
    parser = KernelLogParser()
    tracemalloc.start()
    for at in range(100_000):
        text = chance.choice(texts)
        if chance.random() < 0.05:
            text += chance.choice(texts) * chance.randrange(40)
        caller = chance.choice([None, *range(30)])
        parser.feed(Line(text, at * 1000, at, caller, continues=chance.random() < 0.2))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < BOUND
