"""The examples do what they promise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from otel_oom.linux.cgroupfs import CgroupMount
from tests.testlib.kernel.kills import kill_one
from tests.testlib.kernel.oracle import KernelLog
from tests.testlib.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("real_kills")

EXAMPLES = REPOSITORY / "examples"


def test_bigmem_is_killed_and_leaves_nothing() -> None:
    """The kernel kills its child, and its cgroup is removed."""
    with KernelLog() as log:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "bigmem.py", "--limit", "32"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        killed = {kill.pid for kill in log.read_killed_lines()}
    assert done.returncode == 0, done.stderr
    child = int(done.stdout.split()[2])
    assert done.stdout == f"bigmem: process {child} was killed\n"
    assert child in killed
    files = CgroupMount.find()
    assert files is not None
    assert not list(files.mount.glob("bigmem-*"))


def test_bigmem_needs_a_confirmation_to_endanger_the_host() -> None:
    """Without a cgroup of its own it does nothing unless the user agrees."""
    done = subprocess.run(
        [sys.executable, EXAMPLES / "bigmem.py", "--here"],
        input="n\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "may kill anything" in done.stdout


def test_the_library_example_prints_a_kill() -> None:
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "library.py", "1"],
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "watching\n"
        kill_one()
        line = watching.stdout.readline()
        assert watching.wait(20) == 0
    assert line.startswith("'tail' (pid ")
