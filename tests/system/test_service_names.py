"""Real kills of three kinds: nearly each one carries the name that the service gives itself."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.testlib.containers.docker import IMAGE, Docker, run_docker
from tests.testlib.containers.image import BUSYBOX, KILLED_EXIT_CODE
from tests.testlib.containers.kills import run_watching_agent
from tests.testlib.kernel.kills import wait_until_killed
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.servers.backend import Backend, Received, filter_kills
from tests.testlib.speed import slowness
from tests.testlib.wait import wait_until

_LOG = logging.getLogger(__name__)

pytestmark = [pytest.mark.usefixtures("real_kills"), pytest.mark.slow]

KILLS: Final = int(os.environ.get("OTEL_OOM_TEST_KILLS", "20"))
"""Of each kind; 300 by hand."""
MIN_SHARE: Final = 0.99
_BATCH: Final = 50
_MIB: Final = 1 << 20
_HIDDEN: Final = "hunter2"

_ENVIRON: Final = {
    "PATH": os.defpath,
    "OTEL_SERVICE_NAME": "checkout",
    "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={_HIDDEN}",
    "PASSWORD": _HIDDEN,
}
_NOTED_S: Final = 14.0
"""A process is noted by a scan every 10 s, once it is 2 s old; on a slow machine later."""

_PYTHON_SERVICE: Final = """
import time
time.sleep(0.2)
memory = []
while True:
    memory.append(b"x" * (1 << 20))
"""

_OLD_VICTIM: Final = """
memory = b"x" * (40 << 20)
print(flush=True)
input()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agent")


@pytest.fixture(scope="module")
def backend(folder: Path) -> Iterator[Backend]:
    with run_watching_agent(folder) as received:
        yield received


def check_names(backend: Backend, logs: list[Received], folder: Path) -> None:
    """Check the share of kills with the name, and that nothing else of an environment was kept."""
    named = [log for log in logs if log.resource["service.name"] == "checkout"]
    sources = Counter(str(log.attributes["oom.service.source"]) for log in logs)
    _LOG.info("%d of %d have the name: %s", len(named), len(logs), dict(sources))
    assert len(logs) == KILLS
    assert len(named) >= MIN_SHARE * KILLS, sources
    assert _HIDDEN not in str([record.item for record in (*backend.logs, *backend.spans)])
    for file in folder.rglob("*"):
        assert not file.is_file() or _HIDDEN.encode() not in file.read_bytes(), file


def wait_for_logs(backend: Backend, pids: list[int]) -> list[Received]:
    """Wait for the kills of these processes; return their logs."""
    backend.wait_for_kills(pids, within_s=60)
    return filter_kills(backend.logs, pids)


def test_a_static_program_that_kills_itself(backend: Backend, folder: Path) -> None:
    def kill(_: int) -> int:
        with (
            own_memcg() as memcg,
            subprocess.Popen(
                [*cgroup_prefix(memcg), BUSYBOX, "tail", "/dev/zero"], env=_ENVIRON
            ) as process,
        ):
            wait_until_killed(process)
            return process.pid

    with ThreadPoolExecutor(2) as pool:
        pids = list(pool.map(kill, range(KILLS)))
    check_names(backend, wait_for_logs(backend, pids), folder)


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with run_docker() as running:
        yield running


def test_a_python_service_in_a_container(backend: Backend, docker: Docker, folder: Path) -> None:
    """The service runs for a moment before it allocates too much, as most do."""
    options = ["--network=none", "--memory=24m", "--volume=/usr:/usr:ro"]
    options += [f"--volume={path}:{path}:ro" for path in ("/lib", "/lib64") if Path(path).exists()]
    options += [f"--env={name}={value}" for name, value in _ENVIRON.items()]
    command = ("/usr/bin/python3", "-S", "-c", _PYTHON_SERVICE, _HIDDEN)

    def kill(number: int) -> str:
        name = f"checkout-{number}"
        container_id = docker.docker("run", "--detach", f"--name={name}", *options, IMAGE, *command)
        assert docker.wait(name) == KILLED_EXIT_CODE, docker.docker("logs", name)
        docker.docker("rm", name)
        return container_id.strip()

    with ThreadPoolExecutor(2) as pool:
        ids = set(pool.map(kill, range(KILLS)))

    def find() -> list[Received]:
        return [log for log in backend.logs if log.resource.get("container.id") in ids]

    wait_until(lambda: len(find()) == KILLS, "the kills of all containers", limit=60)
    check_names(backend, find(), folder)


def start_old_victims(stack: ExitStack, count: int) -> list[tuple[Path, subprocess.Popen[bytes]]]:
    """Start processes of 40 MiB, each in a cgroup of 56 MiB; return them once they are noted."""
    victims = []
    for _ in range(count):
        memcg = stack.enter_context(own_memcg(56 * _MIB))
        process = stack.enter_context(
            subprocess.Popen(
                [*cgroup_prefix(memcg), sys.executable, "-S", "-c", _OLD_VICTIM, _HIDDEN],
                env=_ENVIRON,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        victims.append((memcg.procs, process))
    for _, process in victims:
        assert process.stdout
        assert process.stdout.readline() == b"\n"
    time.sleep(_NOTED_S * slowness())
    return victims


def test_a_small_neighbour_and_a_large_older_victim(backend: Backend, folder: Path) -> None:
    """The neighbour allocates 20 MiB: the kernel kills the larger one."""
    pids: list[int] = []
    while len(pids) < KILLS:
        with ExitStack() as stack:
            for procs, victim in start_old_victims(stack, min(_BATCH, KILLS - len(pids))):
                enter = ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(procs))
                allocate = (BUSYBOX, "dd", "if=/dev/zero", "of=/dev/null", "bs=20M", "count=1")
                subprocess.run([*enter, *allocate], check=True, stderr=subprocess.DEVNULL)
                wait_until_killed(victim)
                pids.append(victim.pid)
    check_names(backend, wait_for_logs(backend, pids), folder)
