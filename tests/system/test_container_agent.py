"""The agent in a container without /dev/kmsg: real kills with what the kernel's report says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.containers.agent import (
    CAPABILITIES,
    AgentContainer,
    import_host_image,
    run_client,
)
from tests.testlib.containers.docker import Docker, run_docker
from tests.testlib.containers.podman import Podman, run_podman
from tests.testlib.kernel.kills import kill_in, kill_many
from tests.testlib.kernel.memcg import MEMCG_LIMIT, own_memcg
from tests.testlib.kernel.oracle import KernelLog, read_oom_kill_count, wait_for_report_budget
from tests.testlib.servers.backend import Backend, Received, filter_kills
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")

UNCONFINED = ("--pid=host", "--security-opt=seccomp=unconfined")
KILLS = 6
STORM = 40
ARRIVE_S = 60.0


@pytest.fixture(scope="module", params=["podman", "docker"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Podman | Docker]:
    runners: dict[str, Callable[[], AbstractContextManager[Podman | Docker]]] = {
        "podman": run_podman,
        "docker": run_docker,
    }
    with runners[request.param]() as running:
        import_host_image(running)
        yield running


@contextmanager
def run_agent(
    runtime: Podman | Docker, folder: Path, container: AgentContainer, source: str
) -> Iterator[Backend]:
    """Run an agent in a container; yield the backend of its telemetry."""
    received, name = Backend(), f"agent-{folder.name.partition('[')[0][-40:]}"
    started = "Reports of OOM kills are read" if source == "libbpf" else "Watching for containers"
    with Receiver(received) as receiver:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **container.environ}
        replace(container, environ=environ).start(runtime, name, folder, "--source", source)
        log = folder / "agent.log"
        try:
            wait_until(
                lambda: log.exists() and started in log.read_text("utf-8"),
                "the agent's start",
                limit=ARRIVE_S,
            )
            yield received
        finally:
            run_client(runtime, "rm", "--force", name)


@pytest.fixture(params=["libbpf", "kmsg"])
def backend(
    request: pytest.FixtureRequest, runtime: Podman | Docker, tmp_path: Path
) -> Iterator[Backend]:
    """Run an agent in a container by each source; return the backend of its telemetry."""
    # An old Docker knows no CAP_BPF.
    names = ("SYS_ADMIN", *CAPABILITIES[2:]) if isinstance(runtime, Docker) else CAPABILITIES
    container = AgentContainer(capabilities=names, options=UNCONFINED)
    with run_agent(runtime, tmp_path, container, request.param) as received:
        yield received


def arrived(backend: Backend, pids: list[int]) -> dict[int, Received]:
    """Wait for the log of each kill; return them by process id."""
    wait_until(
        lambda: len(filter_kills(backend.logs, pids)) >= len(pids), "all kills", limit=ARRIVE_S
    )
    logs = filter_kills(backend.logs, pids)
    assert len(logs) == len(pids), "a kill is reported twice"
    return {log.attributes["process.pid"]: log for log in logs}


def test_each_kill_has_limit_scope_advice_and_report(backend: Backend) -> None:
    """As with /dev/kmsg; the kernel's own log is read by the test, on the host."""
    wait_for_report_budget(KILLS)
    paths: dict[int, str] = {}
    with KernelLog() as log:
        for _ in range(KILLS):
            with own_memcg() as memcg:
                paths[kill_in(memcg)] = memcg.path
        reported = log.read_reported_pids()
    assert set(paths) <= set(reported)
    for pid, kill in arrived(backend, list(paths)).items():
        attributes = kill.attributes
        assert attributes["oom.limit.memcg.path"] == paths[pid]
        assert attributes["oom.limit.memcg.limit"] == MEMCG_LIMIT
        assert attributes["oom.limit.scope"]
        assert attributes["oom.decision.source"] == "syslog(2)"
        assert attributes["oom.advice"]
        report = attributes["log.record.original"]
        assert "invoked oom-killer" in report
        assert f"pid={pid},uid=0" in report
        assert f"Killed process {pid} (tail)" in report


def test_a_storm_is_captured_with_every_printed_report(backend: Backend) -> None:
    """The kernel prints ten reports in five seconds; each of them is with its kill."""
    before = read_oom_kill_count()
    with KernelLog() as log:
        pids = kill_many(STORM)
        reported = set(log.read_reported_pids()) & set(pids)
    assert read_oom_kill_count() - before >= STORM
    kills = arrived(backend, pids)
    with_report = {
        pid
        for pid, kill in kills.items()
        if "oom-kill:" in kill.attributes.get("log.record.original", "")
    }
    assert with_report == reported


def _kill_with_report() -> tuple[int, str]:
    """Make kills until the kernel has reported one; return its pid and the path of its cgroup."""
    while True:
        wait_for_report_budget(1)
        with KernelLog() as log, own_memcg() as memcg:
            pid = kill_in(memcg)
            if pid in log.read_reported_pids():
                return pid, memcg.path


@contextmanager
def _run_with_image(podman: Podman, folder: Path, container: AgentContainer) -> Iterator[Backend]:
    import_host_image(podman)
    with run_agent(podman, folder, container, "auto") as received:
        yield received


@pytest.mark.parametrize(
    ("container", "message"),
    [
        (
            # The profile of podman 4.3 allows bpf(2) only with CAP_SYS_ADMIN.
            AgentContainer(environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}),
            (
                "falling back to syslog(2) with fewer fields: A seccomp filter refuses bpf(2) to "
                "this process. In the manifest: securityContext: {seccompProfile: "
                "{type: Unconfined}}"
            ),
        ),
        (
            # As on a node without BTF, tracefs, machine-id and os-release, and without hostPID.
            AgentContainer(
                mounts=(),
                options=(
                    "--security-opt=seccomp=unconfined",
                    "--tmpfs=/sys/kernel/btf:notmpcopyup",
                ),
            ),
            "falling back to syslog(2) with fewer fields: This kernel has no BTF",
        ),
    ],
    ids=["seccomp", "missing files"],
)
def test_capture_goes_on_by_the_kernel_log(
    container: AgentContainer, message: str, tmp_path: Path
) -> None:
    """One sentence says what is refused, and the kill arrives with limit and report."""
    with (
        run_podman() as podman,
        _run_with_image(podman, tmp_path, container) as backend,
    ):
        pid, path = _kill_with_report()
        (kill,) = arrived(backend, [pid]).values()
    assert kill.attributes.get("oom.limit.memcg.path") == path, kill.attributes
    assert kill.attributes["oom.limit.memcg.limit"] == MEMCG_LIMIT
    assert f"Killed process {pid} (tail)" in kill.attributes["log.record.original"]
    assert (tmp_path / "agent.log").read_text("utf-8").count(message) == 1
