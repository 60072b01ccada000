"""Fuzz what reads a kernel's log, guided by what is reached in it, by libFuzzer.

    python -m tests.fuzz [OPTION…] [FOLDER…]

New inputs go to the first folder; the corpus that is kept is tests/fuzz/corpus. Options are
libFuzzer's, such as ``-max_total_time=300``. What fails is left in a file that is named then.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["otel_oom.capture", "otel_oom.model.events"]):
    from tests.fuzz.target import one


def _one(data: bytes) -> None:
    one(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, _one)
    atheris.Fuzz()
