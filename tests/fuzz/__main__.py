"""Fuzz the parser of kernel logs by libFuzzer, guided by coverage.

    python -m tests.fuzz [OPTION…] [FOLDER…]

New inputs go to the first folder; the kept corpus is tests/fuzz/corpus. Options are those of
libFuzzer, such as ``-max_total_time=300``. A failing input is written to a file.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["otel_oom.linux.kernel_log", "otel_oom.capture.kmsg"]):
    from tests.fuzz.target import check_log


def _check(data: bytes) -> None:
    check_log(data)


if __name__ == "__main__":
    atheris.Setup(sys.argv, _check)
    atheris.Fuzz()
