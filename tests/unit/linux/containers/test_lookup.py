"""Containers by the files and processes of their runtimes, whatever these contain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.config.agent import read_container_labels
from otel_oom.enrich.resource import container_attributes
from otel_oom.linux.containers import shims
from otel_oom.linux.containers.bundle_dirs import (
    BundleDir,
    find_bundle_dirs,
    find_user_bundle_dirs,
)
from otel_oom.linux.containers.cgroup_id import find_container_ids
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.linux.containers.oci_bundle import Bundle
from otel_oom.linux.process_lookup import ProcessLookup
from otel_oom.model.snapshot import Container, EventContainers
from otel_oom.model.types import Memcg, Task
from tests.testlib.containers.processes import conmon_command, make_process
from tests.testlib.require import require
from tests.testlib.samples.events import KILL, roundtrip

INNER, OUTER, OTHER = "1" * 64, "2" * 64, "3" * 64
REGISTRY = "registry.example:5000/team/shop"
DIGEST = f"sha256:{'a' * 64}"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of podman, with the list of its storage."""
    storage = tmp_path / "storage/overlay-containers"
    folder = storage / INNER / "userdata"
    folder.mkdir(parents=True)
    linux = {"cgroupsPath": f"/libpod_parent/libpod-{INNER}"}
    annotations = {"io.container.manager": "libpod"}
    write_json(folder / "config.json", {"annotations": annotations, "linux": linux})
    metadata = json.dumps({"name": "web", "image-name": f"{REGISTRY}:1.2"})
    entry = {"id": INNER, "names": ["web"], "image": "a" * 64, "metadata": metadata}
    write_json(storage / "containers.json", [{"id": OTHER}, entry])
    return folder


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def test_nested_containers_are_listed_from_outside_inwards() -> None:
    found = find_container_ids(f"/docker/{OUTER}/libpod_parent/libpod-{INNER}/init")
    assert [(one.id, one.runtime) for one in found] == [(OUTER, "docker"), (INNER, "podman")]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", {"name": "busybox"}),
        (f"{REGISTRY}:1.2", {"name": REGISTRY, "tags": ("1.2",)}),
        (REGISTRY, {"name": REGISTRY}),
        (f"{REGISTRY}@{DIGEST}", {"name": REGISTRY, "repo_digests": (f"{REGISTRY}@{DIGEST}",)}),
        (
            f"{REGISTRY}:1.2@{DIGEST}",
            {"name": REGISTRY, "tags": ("1.2",), "repo_digests": (f"{REGISTRY}@{DIGEST}",)},
        ),
        (DIGEST, {}),
        ("a" * 64, {}),
        (None, {}),
    ],
)
def test_an_image_has_a_name_a_tag_and_a_digest(
    image: str | None, expected: dict[str, Any]
) -> None:
    """The port of a registry is no tag, and an id is no name."""
    attributes = container_attributes(Container(INNER, image=image))
    del attributes["container.id"]
    assert attributes == {f"container.image.{name}": value for name, value in expected.items()}


def test_labels_are_the_configured_ones() -> None:
    environ = {"OTEL_OOM_CONTAINER_LABELS": "team, app.kubernetes.io/name,,"}
    assert read_container_labels(environ) == {"team", "app.kubernetes.io/name"}
    assert read_container_labels({}) == frozenset()
    attributes = container_attributes(Container(INNER, labels={"team": "shop"}))
    assert attributes["container.label.team"] == "shop"


def test_containers_survive_storage() -> None:
    contained = EventContainers(Container(INNER, name="web", labels={"a": "b"}), Container(OUTER))
    assert roundtrip(contained) == contained


def test_a_shim_above_the_victim_leads_to_its_bundle(tmp_path: Path, bundle: Path) -> None:
    """Wherever the runtime keeps it, and also if no cgroup is named after the container."""
    require(ProcessLookup().usable, "/proc counts in another PID namespace than the kernel")
    proc = tmp_path / "proc"
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, INNER))
    make_process(proc, 11, 10, "sh (a) 1 2")
    make_process(proc, 12, 11, "tail")
    victim = replace(KILL.victim, ppid=12)
    for path in (f"/libpod_parent/libpod-{INNER}", "/user.slice"):
        event = replace(KILL, victim=victim, memcg=Memcg(1, path), trigger=None)
        found = ContainerLookup(frozenset(), proc).resolve(event, processes=True).victim
        assert found == Container(
            INNER, "podman", name="web", image=f"{REGISTRY}:1.2", image_id="a" * 64
        )


def test_a_rootless_bundle_directory_is_read_in_the_mounts_of_init(
    tmp_path: Path, bundle: Path
) -> None:
    """Rootless podman has its own mounts, while its directories are the host's.

    A user can mount any file system there."""
    proc = tmp_path / "proc"
    make_process(proc, 10, 1, "conmon", *conmon_command(bundle, INNER), uid=1000, other="mnt")
    (shim,) = shims.list_shims(proc)
    assert shim.bundle_dir == BundleDir(Path("/"), bundle.parents[1], "userdata", 1000)


def test_the_bundle_directories_of_a_user_are_in_its_home(tmp_path: Path) -> None:
    """By the host's own list of users; they are searched for cgroups of that user only."""
    folders = [tmp_path / home / ".local/share/containers/storage" for home in ("home/a", "b")]
    for folder in folders:
        (folder / "overlay-containers").mkdir(parents=True)
    users = "a:x:1000:1000::/home/a:/bin/sh\nb:x:1002:1002::/b:/bin/sh\n+\nc:x:1001:1::c:/bin/sh\n"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(users, encoding="ascii")
    assert list(find_bundle_dirs(tmp_path)) == []
    for path, expected in (
        ("/user.slice/user-1000.slice/session-1.scope", [folders[0] / "overlay-containers"]),
        ("/user.slice/user-1001.slice/session-1.scope", []),
        (f"/docker/{INNER}", []),
    ):
        found = find_user_bundle_dirs(tmp_path, path)
        assert [each.folder for each in found] == expected


@pytest.mark.parametrize("name", ["containerd-shim", "conmon"])
@pytest.mark.parametrize(
    "words", [(), ("-c",), ("-c", INNER, "-b", INNER), ("-id", "../.."), ("-c", INNER)]
)
def test_a_shim_with_other_arguments_is_ignored(
    tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    make_process(tmp_path, 10, 1, name, *words)
    assert list(shims.find_shims(Task(11, ppid=10), tmp_path)) == []


@pytest.mark.parametrize("listed", [{}, [7, None, {"id": INNER, "names": 5, "metadata": []}], "x"])
def test_a_malformed_podman_list_leaves_the_bare_container(bundle: Path, listed: object) -> None:
    write_json(bundle.parents[1] / "containers.json", listed)
    found = ContainerLookup(frozenset()).read_bundle(
        INNER, BundleDir(Path("/"), bundle.parents[1], "userdata")
    )
    assert found is not None
    assert found.container == Container(INNER, "podman")


def test_a_container_without_a_runtime_has_an_error(tmp_path: Path) -> None:
    found = ContainerLookup(frozenset(), tmp_path).resolve(KILL, processes=True).victim
    assert found is not None
    assert found.runtime == "docker"
    assert found.name is None
    assert found.error == "not found in the files of any runtime"


def test_the_cache_of_containers_is_bounded(tmp_path: Path) -> None:
    lookup = ContainerLookup(frozenset(), tmp_path)
    for number in range(3000):
        lookup.add(Bundle(Container(f"{number:064}")))
    assert lookup.get(f"{0:064}") is None
    assert lookup.get(f"{2999:064}") is not None
    assert lookup.get(f"{3000 - 2048:064}") is not None
