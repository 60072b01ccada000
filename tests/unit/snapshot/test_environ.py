"""The variables of a process's environment, read without delay."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_oom.snapshot.environ import EnvironReader, select_variables

OWN = {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "a=b,c=d"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ("OTEL_SERVICE_NAME=shop\0OTEL_RESOURCE_ATTRIBUTES=a=b,c=d\0", OWN),
        ("OTEL_EXPORTER_OTLP_HEADERS=key=hunter2\0PASSWORD=hunter2\0", {}),
        ("X_OTEL_SERVICE_NAME=x\0OTEL_SERVICE_NAME_X=x\0otel_service_name=x\0", {}),
        ("X=\nOTEL_SERVICE_NAME=x\0", {}),
        ("OTEL_SERVICE_NAME=first\0OTEL_SERVICE_NAME=second\0", {"OTEL_SERVICE_NAME": "first"}),
        ("OTEL_SERVICE_NAME=\0OTEL_SERVICE_NAME\0", {}),
        ("A=b\0OTEL_SERVICE_NAME=sho", {}),
        ("OTEL_SERVICE_NAME=" + "x" * 4097 + "\0", {}),
        ("nginx: worker process\0\0\0", {}),
        ("", {}),
    ],
)
def test_only_the_two_variables_are_selected(environ: str, expected: dict[str, str]) -> None:
    """Each whole or not at all."""
    assert select_variables(environ) == expected


def test_a_real_process() -> None:
    program = "import sys; sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, env={**OWN, "SECRET": "hunter2"}
    ) as process:
        # A first read may meet the time before its execve(2), or a machine that is busy.
        reader, deadline = EnvironReader(), time.monotonic() + 10
        while not (found := reader.read(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.communicate()
    assert found == OWN


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert EnvironReader(tmp_path).read(1) == {}


def test_a_read_that_hangs_delays_no_other(tmp_path: Path) -> None:
    """Meanwhile others have no variables, and its late result is dropped."""
    for pid in ("1", "2"):
        (tmp_path / pid).mkdir()
    hanging, good = tmp_path / "1/environ", tmp_path / "2/environ"
    os.mkfifo(hanging)
    good.write_text("OTEL_SERVICE_NAME=good\0", encoding="ascii")
    reader = EnvironReader(tmp_path)
    assert reader.read(1) == {}
    assert reader.read(2) == {}
    hanging.write_text("OTEL_SERVICE_NAME=late\0", encoding="ascii")
    deadline = time.monotonic() + 10
    while not (found := reader.read(2)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found == {"OTEL_SERVICE_NAME": "good"}
