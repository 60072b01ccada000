"""The container service: no kill waits for a file, and containers are read before kills."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from otel_oom.linux.containers import oci_bundle
from otel_oom.linux.containers import service as runtimes_module
from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.containers.oci_bundle import Bundle
from otel_oom.linux.containers.service import ContainerService
from otel_oom.linux.containers.watcher import BundleWatcher
from otel_oom.model.loss import MissedKills
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg
from tests.testlib.samples.events import KILL
from tests.testlib.wait import wait_until

INNER, OUTER = "1" * 64, "2" * 64
ALONE = replace(KILL, trigger=None, memcg=Memcg(1, f"/docker/{INNER}"))


@pytest.fixture
def service() -> Iterator[ContainerService]:
    """A running service."""
    running = ContainerService()
    running.start()
    yield running
    running.stop()


def test_a_file_that_hangs_delays_one_kill_only(
    service: ContainerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills get the bare id and an error; the delivery gets the file's data once it is read."""
    hangs = threading.Event()
    reads: list[str] = []
    waits: list[float | None] = []

    def read(container_id: str, *_: object) -> Bundle:
        reads.append(container_id)
        hangs.wait(30)
        return Bundle(Container(container_id, "docker", name="web"), f"/docker/{container_id}")

    # A disk that does not answer can't be had on loopback.
    monkeypatch.setattr(oci_bundle, "read_bundle", read)
    monkeypatch.setattr(
        ContainerLookup, "bundle_dirs", lambda _: [BundleDir(Path("/"), Path("/run"))]
    )

    class Done(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return super().wait(timeout)

    request_type = runtimes_module._Request  # noqa: SLF001  holds the event that is waited for
    monkeypatch.setattr(runtimes_module, "_Request", lambda event: request_type(event, Done()))
    late = Container(INNER, "docker", error="timeout while reading the files of its runtime")
    at_once = [service.resolve_now(ALONE) for _ in range(3)]
    assert [each and each.victim for each in at_once] == [late] * 3
    assert len(reads) == 1
    assert len(waits) == 1, "the others have waited as well"
    hangs.set()
    wait_until(
        lambda: service.resolve_deferred(ALONE, at_once[0]).victim != late, "what the file says"
    )
    container = service.resolve_deferred(ALONE, at_once[0]).victim
    assert container is not None
    assert container.name == "web"


def test_a_late_result_is_used_by_the_delivery(
    service: ContainerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no cgroup names the container, only the victim's ancestors lead to it.

    The delivery waits once for a result that does not come."""
    monkeypatch.setattr(runtimes_module, "_WAIT_S", 0.0)
    monkeypatch.setattr(ContainerLookup, "needs_io", lambda *_: True)
    goes_on = threading.Event()
    found = EventContainers(Container(INNER, "podman", name="web"))

    def resolve(*_: object, processes: bool) -> EventContainers:
        if processes:
            goes_on.wait(30)
        return found if processes else EventContainers()

    monkeypatch.setattr(ContainerLookup, "resolve", resolve)
    bare = replace(ALONE, memcg=Memcg(1, "/user.slice"))
    other = replace(bare, victim=replace(bare.victim, tgid=7), boottime_ns=7)
    for event in (bare, other):
        assert service.resolve_now(event) == EventContainers()
    monkeypatch.setattr(runtimes_module, "_DEFERRED_WAIT_S", 0.0)
    assert service.resolve_deferred(other, EventContainers()) == EventContainers()
    monkeypatch.setattr(runtimes_module, "_DEFERRED_WAIT_S", 30.0)
    goes_on.set()
    wait_until(lambda: not service._is_stuck.is_set(), "the thread's turn")  # noqa: SLF001  its own lock
    container = service.resolve_deferred(bare, EventContainers()).victim
    assert container is not None
    assert container.name == "web"


def test_files_that_timed_out_are_read_for_the_next_kill(
    service: ContainerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Container(INNER, "docker", error="timeout while reading the files of its runtime")
    assert service.resolve_deferred(ALONE, EventContainers(late)).victim is not None
    found = Container(INNER, "docker", name="web")
    bundle = Bundle(found, f"/docker/{INNER}")
    monkeypatch.setattr(oci_bundle, "read_bundle", lambda *_: bundle)
    monkeypatch.setattr(
        ContainerLookup, "bundle_dirs", lambda _: [BundleDir(Path("/"), Path("/run"))]
    )

    def at_once() -> bool:
        containers = service.resolve_now(ALONE)
        return containers is not None and containers.victim == found

    wait_until(at_once, "the container by its file")


def test_of_nested_containers_the_inner_one_is_the_victims(service: ContainerService) -> None:
    nested = replace(ALONE, memcg=Memcg(1, f"/docker/{OUTER}/libpod_parent/libpod-{INNER}"))
    containers = service.resolve_now(nested)
    assert containers is not None
    assert containers.victim is not None
    assert containers.host is not None
    assert (containers.victim.id, containers.victim.runtime) == (INNER, "podman")
    assert (containers.host.id, containers.host.runtime) == (OUTER, "docker")


def test_the_triggers_container_is_set_if_it_is_another(service: ContainerService) -> None:
    other = replace(ALONE, trigger=KILL.trigger, trigger_memcg=Memcg(2, f"/docker/{OUTER}"))
    same = replace(ALONE, trigger=KILL.trigger, trigger_memcg=ALONE.memcg)
    containers, same_containers = service.resolve_now(other), service.resolve_now(same)
    assert containers is not None
    assert containers.trigger is not None
    assert containers.trigger.id == OUTER
    assert same_containers is not None
    assert same_containers.trigger is None


def test_an_event_without_tasks_has_no_containers(service: ContainerService) -> None:
    missed = MissedKills(
        boot_id="b", boottime_ns=1, time_unix_ns=1, count=1, kernel_count=1, reason="unknown"
    )
    assert service.resolve_now(missed) is None


def test_a_container_is_read_once_its_bundle_is_complete(tmp_path: Path) -> None:
    """Its directory comes first and its file later; after its end it is still in the cache."""
    lookup = ContainerLookup(frozenset())
    lookup.add_bundle_dir(BundleDir(Path("/"), tmp_path))
    watcher = BundleWatcher(lookup)
    watcher.watch_all()
    folder = tmp_path / INNER
    folder.mkdir()
    watcher.read_new()
    assert lookup.get(INNER) is None
    selected = {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "web",
    }
    annotations = {**selected, "secret": "hunter2"}
    (folder / "config.json").write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    wait_until(lambda: watcher.retry_pending() == float("inf"), "the bundle")
    (folder / "config.json").unlink()
    folder.rmdir()
    assert lookup.get(INNER) == Container(INNER, "containerd", name="web", annotations=selected)
    watcher.close()
