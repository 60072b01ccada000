"""Any bytes as a file of each kind: nothing is raised, and output and memory are bounded."""

from __future__ import annotations

import importlib
import importlib.util
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from otel_oom.linux.kernel_log.line_types import Line
from otel_oom.linux.kernel_log.parser import KernelLogParser
from tests.fuzz.targets import TARGETS
from tests.testlib.require import require

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"

RUNS = 20_000
SECONDS = 6
BOUND = 8 << 20
"""Sixteen threads, each with a report of 32 KiB, its rows, and Python's overhead."""


@pytest.mark.parametrize("target", TARGETS)
def test_inputs_of_the_corpus(target: str) -> None:
    module = importlib.import_module(f"tests.fuzz.targets.{target}")
    seeds = sorted((CORPUS / target).iterdir())
    assert seeds
    for seed in seeds:
        module.check_input(seed.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_new_inputs_break_nothing(target: str, tmp_path: Path) -> None:
    """A short run guided by coverage; `python -m tests.fuzz TARGET` makes a long one."""
    require(importlib.util.find_spec("atheris"), "atheris is missing; run scripts/setup test")
    new_inputs = tmp_path / "new"
    new_inputs.mkdir()
    run = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz", target, f"-runs={RUNS}"),
            *(f"-max_total_time={SECONDS}", "-max_len=4096", "-timeout=60"),
            f"-dict={FOLDER}/dictionaries/{target}.dict",
            *(f"-artifact_prefix={tmp_path}/", new_inputs, CORPUS / target),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]


def test_memory_of_the_parser_is_bounded() -> None:
    """A hundred thousand lines, spliced of all that begins or continues an event."""
    chance = random.Random(7)  # noqa: S311  the same lines at each run
    inputs = [seed.read_bytes() for seed in (CORPUS / "kernel_log").iterdir()]
    seeds = [data.decode(errors="backslashreplace") for data in inputs]
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
