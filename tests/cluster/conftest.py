"""One cluster for all tests of this folder, with the chart installed in it.

They come late. Until then the cluster's programs are built in the background: the first time the
node's takes ten minutes. The cluster itself, which starts in ten seconds, does not run beside the
other tests: they share the kernel, and some look at all containers of this machine. But these tests
often wait, and guests have the processors meanwhile: so what waits for guests alone comes last.
"""

from __future__ import annotations

import io
import logging
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from otel_oom.commands.demo.receiver import Receiver
from tests.cluster import plan, scenarios, workloads
from tests.cluster import release as release_settings
from tests.cluster.cluster import Cluster, run_cluster
from tests.cluster.made_kills import MadeKill, make_kills
from tests.cluster.release import Release
from tests.cluster.settings import PLUGINS
from tests.testlib.containers.archive import build_archive, build_pod_images
from tests.testlib.containers.image import BUSYBOX, built_image
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require, require_programs
from tests.testlib.servers.backend import Backend
from tests.testlib.wait import wait_until

_LOG: Final = logging.getLogger(__name__)
_FOLDER: Final = Path(__file__).parent
_BUILDS: Final = ("collector", "helm", "node")
_BUILDER: Final = pytest.StashKey["subprocess.Popen[bytes]"]()
_BUILDER_END_S: Final = 60.0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these tests behind all others but those that wait for a guest."""
    items.sort(key=_is_here)


def _is_here(item: pytest.Item) -> bool:
    return item.path.is_relative_to(_FOLDER)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start to build what the tests need."""
    if not session.config.option.collectonly and any(map(_is_here, session.items)):
        session.config.stash[_BUILDER] = subprocess.Popen(
            ["nice", "-n19", sys.executable, "-m", "tests.testlib.servers.build", *_BUILDS],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # the fixture that needs a part reports its failure
            process_group=0,
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the builds, also after an interruption."""
    builder = config.stash.get(_BUILDER, None)
    if builder and builder.poll() is None:
        builder.send_signal(signal.SIGINT)
        builder.wait(_BUILDER_END_S)


@pytest.fixture(scope="package")
def cluster(
    real_kills: None,  # noqa: ARG001  skips
    node_binary: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """Run the cluster, with the image of the tests' own containers and a namespace for them."""
    require_programs("containerd", "ctr", "ip", "iptables", "nsenter", "openssl", "runc", BUSYBOX)
    require(Path(PLUGINS, "bridge").exists(), f"no network plug-ins in {PLUGINS}")
    archive = tmp_path_factory.mktemp("images") / "pods.tar"
    archive.write_bytes(build_pod_images())
    with run_cluster(node_binary) as running:
        running.import_image(archive)
        running.apply(workloads.namespace(scenarios.NAMESPACE))
        running.apply(workloads.namespace(release_settings.NAMESPACE))
        scenarios.apply_first(running)
        yield running


@pytest.fixture(scope="package")
def backend() -> Backend:
    """Return what the gateway has sent so far."""
    return Backend()


@pytest.fixture(scope="package")
def receiver(cluster: Cluster, backend: Backend) -> Iterator[Receiver]:
    """Receive on the node's address what the gateway sends."""
    with cluster.call_in_network(lambda: Receiver(backend, host=plan.NODE_ADDRESS)) as running:
        yield running


@pytest.fixture(scope="package")
def agent_image() -> Path:
    """Return the archive of the agent's image, built from these sources."""
    return built_image()


@pytest.fixture(scope="package")
def gateway_image(collector_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an archive of the tests' Collector as an image."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(collector_binary, "otelcol")
    tag = ":".join(release_settings.GATEWAY_IMAGE)
    archive = tmp_path_factory.mktemp("images") / "gateway.tar"
    archive.write_bytes(build_archive(layer.getvalue(), {tag: ["/otelcol"]}))
    return archive


@pytest.fixture(scope="package")
def release(  # noqa: PLR0913, PLR0917  fixtures
    cluster: Cluster,
    receiver: Receiver,
    backend: Backend,
    helm_binary: Path,
    agent_image: Path,
    gateway_image: Path,
) -> Release:
    """Install the chart with the built image, and with the Collector of the tests as gateway."""
    cluster.import_image(agent_image)
    cluster.import_image(gateway_image)
    installed = Release(cluster, helm_binary, receiver.url)
    wait_until(lambda: scenarios.find_pod(cluster, scenarios.FIRST, "main"), "first", limit=120)
    started = time.monotonic()
    installed.install()
    ready_s = time.monotonic() - started
    scenarios.open_gate(cluster, scenarios.FIRST, "main")
    wait_until(lambda: _is_first_received(backend), "the first kill", limit=120)
    _LOG.info(
        "agent and gateway ready %.1f s after `helm install`, first kill received at %.1f s",
        ready_s,
        time.monotonic() - started,
    )
    return installed


def _is_first_received(backend: Backend) -> bool:
    return any(log.resource.get("k8s.pod.name") == scenarios.FIRST for log in backend.logs)


@pytest.fixture(scope="package")
def kills(cluster: Cluster, release: Release) -> dict[str, MadeKill]:  # noqa: ARG001  installed before
    """Make the kill of each scenario."""
    scenarios.kill_more_in_first(cluster)
    scenarios.apply_all(cluster)
    return make_kills(cluster)
