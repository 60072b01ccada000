"""What is left of a cluster whose supervisor was killed, and the next start."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.cluster import cgroups, plan
from tests.cluster.remains import open_folder
from tests.testlib.kernel.memcg import CGROUP_MOUNT
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


def test_the_next_start_ends_a_cluster_without_supervisor() -> None:
    """Its processes, cgroups and files; those of a running cluster stay."""
    name = f"{plan.NAME_PREFIX}of-a-killed-supervisor"
    folder = Path(tempfile.gettempdir(), name)
    folder.mkdir()
    cgroups.make_cgroups(name)
    procs = CGROUP_MOUNT.mount / name / "cgroup.procs"
    with open_folder() as (running, _):  # sees it without a lock
        assert not folder.exists()
        cgroups.make_cgroups(running.path.name)
        cgroups.make_cgroups(name)
        shim = subprocess.Popen(["sh", "-c", f"echo $$ > {procs} && exec sleep 1000"])
        wait_until(lambda: str(shim.pid) in procs.read_text(encoding="ascii"), "its move")
        with open_folder():
            assert shim.wait(30) == -signal.SIGKILL
            left = cgroups.list_leftovers(plan.NAME_PREFIX)
            assert running.path.name in left
            assert name not in left
            assert running.path.exists()
        cgroups.remove_cgroups(running.path.name)
    assert not running.path.exists()
