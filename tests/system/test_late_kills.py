"""Kills in pods while no agent ran: the runtime has removed the container before one starts."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.testlib.agent import run_agent
from tests.testlib.containers.containerd import run_containerd
from tests.testlib.containers.cri import CriRuntime
from tests.testlib.containers.crio import run_crio
from tests.testlib.containers.image import FILL_MEMORY, OPEN_GATE
from tests.testlib.containers.kills import wait_for_kill_log
from tests.testlib.containers.kubelet import log_link, pod_cgroup
from tests.testlib.kernel.bpffs import mount_bpffs
from tests.testlib.process import free_port
from tests.testlib.servers.backend import Backend

pytestmark = pytest.mark.usefixtures("real_kills")


BUNDLE_GONE = "its bundle is gone, and with it the name of its image"


@pytest.fixture(scope="module", params=["containerd", "cri-o"])
def runtime(
    request: pytest.FixtureRequest, crio_binaries: tuple[Path, Path], crictl_binary: Path
) -> Iterator[CriRuntime]:
    with ExitStack() as stack:
        if request.param == "containerd":
            yield stack.enter_context(run_containerd(crictl_binary))
        else:
            yield stack.enter_context(run_crio(*crio_binaries, crictl_binary))


@pytest.mark.parametrize("root", ["", "/otel-oom-node"])
@pytest.mark.parametrize("removed", [False, True], ids=["ended", "removed"])
def test_a_late_kill_has_the_names_of_its_container(
    root: str, runtime: CriRuntime, tmp_path: Path, *, removed: bool
) -> None:
    """By the sandbox and the log alone, if the kubelet has removed the container as well.

    And wherever it has its ``--cgroup-root``.
    """
    uid = str(uuid.uuid4())
    with (
        mount_bpffs(tmp_path / "bpffs") as mounted,
        pod_cgroup(f"{root}/kubepods/burstable/pod{uid}") as cgroup,
    ):
        pin_dir, backend = mounted / "v1", Backend()
        unused = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
        with run_agent(tmp_path, unused, pin_dir=pin_dir) as first:
            first.stop()
        pod = runtime.start_pod("shop-7d", "prod", uid, cgroup)
        container_id = runtime.start(pod, "web", FILL_MEMORY)
        inspected = runtime.inspect(container_id)
        runtime.run_in(container_id, OPEN_GATE)
        runtime.wait(container_id)
        if removed:
            runtime.crictl("rm", container_id)
        described = runtime.inspect_pod(pod)["status"]["metadata"]
        with (
            log_link(pod, "web", container_id, 3),
            Receiver(backend) as receiver,
            run_agent(
                tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, pin_dir=pin_dir
            ) as second,
        ):
            log = wait_for_kill_log(backend, container_id)
            second.stop()
        runtime.remove(pod)
    assert log.attributes["oom.capture.recovered"] is True
    expected = {
        "container.runtime.name": runtime.process.name.replace("crio", "cri-o"),
        "k8s.pod.name": described["name"],
        "k8s.namespace.name": described["namespace"],
        "k8s.pod.uid": described["uid"],
        "k8s.container.name": inspected["status"]["metadata"]["name"],
        # The log is of the third, while the runtime has the number of its own.
        "k8s.container.restart_count": 3 if removed else 0,
        "service.name": described["name"],
        "service.instance.id": "prod.shop-7d.web",
    }
    assert {name: log.resource.get(name) for name in expected} == expected
    error, image = log.attributes.get("oom.enrichment.error"), inspected["status"]
    if removed:
        assert error == [f"container {container_id}: {BUNDLE_GONE}"]
    else:
        assert error is None
        name = log.resource["container.image.name"]
        assert f"{name}:{log.resource['container.image.tags'][0]}" == image["image"]["image"]
        assert log.resource["container.image.id"] in image["imageRef"] + image["imageId"]
