"""`otel-oom doctor` in a real container names each missing right, and the option that gives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.testlib.containers.agent import CAPABILITIES, AgentContainer, import_host_image
from tests.testlib.containers.docker import Docker, run_docker
from tests.testlib.containers.podman import Podman, run_podman

pytestmark = pytest.mark.usefixtures("real_kills")

UNCONFINED = AgentContainer(options=("--pid=host", "--security-opt=seccomp=unconfined"))
IN_POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    with run_podman() as running:
        import_host_image(running)
        yield running


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    with run_docker() as running:
        import_host_image(running)
        yield running


def warnings(checks: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the advice of each check that is not well, but those of the host's kernel."""
    return {
        name: check["advice"]
        for name, check in checks.items()
        if check["state"] != "ok" and not name.startswith(("vm.", "settings", "swap"))
    }


def test_nothing_is_missing_with_the_rights_of_the_manifest(docker: Docker) -> None:
    """An old Docker knows no CAP_BPF; CAP_SYS_ADMIN contains it."""
    known = ("SYS_ADMIN", *CAPABILITIES[2:])
    checks = AgentContainer(capabilities=known).doctor(docker, "all")
    assert checks["rights"]["state"] == "ok"
    assert checks["hook"]["state"] == "ok"
    assert checks["kernel log"]["detail"] == "syslog(2)"


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_each_missing_capability_is_named(capability: str, podman: Podman) -> None:
    """With its option of podman; in a pod with its line of YAML."""
    container = UNCONFINED.without(capability)
    checks = container.doctor(podman, f"without-{capability.lower().replace('_', '-')}")
    right = checks[f"CAP_{capability}"]
    assert right["state"] == "warn"
    assert right["advice"].startswith(f"Add to the run command: --cap-add={capability}")
    assert "rights" not in checks
    others = [f"CAP_{name}" for name in CAPABILITIES if name != capability]
    assert not set(others) & checks.keys()
    in_pod = replace(container, environ=IN_POD).doctor(podman, "pod")
    assert in_pod[f"CAP_{capability}"]["advice"] == (
        f"In the manifest: securityContext: {{capabilities: {{add: [{capability}]}}}}"
    )


def test_a_seccomp_profile_that_refuses_bpf_is_recognised(podman: Podman) -> None:
    """That of this podman allows bpf(2) only with CAP_SYS_ADMIN."""
    checks = AgentContainer().doctor(podman, "filtered")
    assert checks["bpf(2)"]["state"] == "warn"
    assert "--security-opt=seccomp=unconfined" in checks["bpf(2)"]["advice"]
    assert checks["hook"]["detail"] == "A seccomp filter refuses bpf(2) to this process"
    assert "--security-opt=seccomp=unconfined" in checks["hook"]["advice"]
    # The kernel log takes over.
    assert checks["source"]["detail"].startswith("kmsg, because")
    in_pod = AgentContainer(environ=IN_POD).doctor(podman, "filtered-pod")
    assert "seccompProfile: {type: Unconfined}" in in_pod["bpf(2)"]["advice"]
    assert not any("docker" in check["advice"] for check in in_pod.values())


def test_process_ids_and_mounts_that_are_missing_are_named(podman: Podman) -> None:
    """Each with the option or the lines of YAML that hand it in."""
    bare = replace(UNCONFINED, mounts=(), options=("--security-opt=seccomp=unconfined",))
    advice = warnings(bare.doctor(podman, "bare"))
    assert advice["process ids of the host"] == "Add to the run command: --pid=host"
    assert "--volume=/etc/machine-id:/etc/machine-id:ro" in advice["machine id"]
    assert "--volume=/sys/kernel/tracing:/sys/kernel/tracing:ro" in advice["tracefs"]
    assert "--volume=/run/containerd/" in advice["container runtime"]
    assert "--volume=/sys/fs/bpf:/sys/fs/bpf" in advice["bpffs"]
    assert "Add to the run command: --volume=/sys/fs/cgroup:/sys/fs/cgroup:ro" in advice["cgroups"]
    daemons = bare.doctor(podman, "bare-daemons")["userspace OOM daemons"]
    assert "of the host, if it has any, without its journal" in daemons["detail"]
    assert "--volume=/var/log:/var/log:ro" in daemons["advice"]
    advice = warnings(replace(bare, environ=IN_POD).doctor(podman, "bare-pod"))
    assert advice["process ids of the host"] == "In the manifest: hostPID: true"
    assert advice["machine id"] == (
        "In the manifest: volumes: [{name: machine-id, hostPath: {path: /etc/machine-id}}] and "
        "volumeMounts: [{name: machine-id, mountPath: /etc/machine-id, readOnly: true}]"
    )


def test_a_user_without_rights_is_told_of_all_of_them(podman: Podman) -> None:
    """No kill can be captured there: both ways are refused, and each has its option."""
    container = AgentContainer(capabilities=(), user="65534")
    checks = container.doctor(podman, "nobody")
    assert {f"CAP_{name}" for name in CAPABILITIES} <= checks.keys()
    assert (checks["hook"]["state"], checks["kernel log"]["state"]) == ("fail", "fail")
    assert "--cap-add=BPF --cap-add=PERFMON --user=0" in checks["hook"]["advice"]
    assert "--cap-add=SYSLOG --user=0" in checks["kernel log"]["advice"]
