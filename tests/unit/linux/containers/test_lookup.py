"""What is said of containers by files and processes that may say anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from otel_oom.config.containers import read_container_labels
from otel_oom.enrich.container_attributes import container_attributes
from otel_oom.linux.containers import json_file, shims
from otel_oom.linux.containers.bundle_dirs import BundleDir, find_bundle_dirs
from otel_oom.linux.containers.cgroup_id import find_container_ids
from otel_oom.linux.containers.lookup import ContainerLookup
from otel_oom.model.container import Container, EventContainers
from otel_oom.model.types import Memcg
from tests.testlib.samples.events import KILL, roundtrip

INNER, OUTER, OTHER = "1" * 64, "2" * 64, "3" * 64
REGISTRY = "registry.example:5000/team/shop"
DIGEST = f"sha256:{'a' * 64}"


def process(proc: Path, pid: int, parent: int, name: str, *words: str, cgroup: str = "/") -> None:
    """A process of a made-up /proc."""
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    (folder / "stat").write_text(f"{pid} ({name}) S {parent} 0 0", encoding="ascii")
    (folder / "cmdline").write_text("\0".join(words), encoding="ascii")
    (folder / "cgroup").write_text(f"0::{cgroup}\n", encoding="ascii")


def conmon(bundle: Path, container_id: str = INNER) -> tuple[str, ...]:
    """The words that conmon is started with."""
    return ("/usr/bin/conmon", "-c", container_id, "-b", str(bundle), "-n", "web", "-p", "/run/x")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of podman's, with the list of its storage."""
    storage = tmp_path / "storage/overlay-containers"
    folder = storage / INNER / "userdata"
    folder.mkdir(parents=True)
    write(folder / "config.json", {"annotations": {"io.container.manager": "libpod"}})
    metadata = json.dumps({"name": "web", "image-name": f"{REGISTRY}:1.2"})
    entry = {"id": INNER, "names": ["web"], "image": "a" * 64, "metadata": metadata}
    write(storage / "containers.json", [{"id": OTHER}, entry])
    return folder


def write(path: Path, value: object) -> None:
    """``value`` as a file of JSON."""
    path.write_text(json.dumps(value), encoding="utf-8")


def test_nested_containers_are_told_from_outside_inwards() -> None:
    """A path that goes through two containers names both."""
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
def test_an_image_is_name_tag_and_digest(image: str | None, expected: dict[str, Any]) -> None:
    """The colon of a registry's port begins no tag, and an id is no name."""
    attributes = container_attributes(Container(INNER, image=image))
    del attributes["container.id"]
    assert attributes == {f"container.image.{name}": value for name, value in expected.items()}


def test_labels_are_those_asked_for() -> None:
    """The keys are separated by commas; without any there are none."""
    environ = {"OTEL_OOM_CONTAINER_LABELS": "team, app.kubernetes.io/name,,"}
    assert read_container_labels(environ) == {"team", "app.kubernetes.io/name"}
    assert read_container_labels({}) == frozenset()
    told = container_attributes(Container(INNER, labels={"team": "shop"}))
    assert told["container.label.team"] == "shop"


def test_containers_come_back_from_the_journal() -> None:
    """What was known at once is the same after the disk."""
    contained = EventContainers(Container(INNER, name="web", labels={"a": "b"}), Container(OUTER))
    assert roundtrip(contained) == contained


def test_a_monitor_above_the_victim_leads_to_its_bundle(tmp_path: Path, bundle: Path) -> None:
    """Wherever the runtime's folders are, and also where no cgroup has the container's name."""
    proc = tmp_path / "proc"
    process(proc, 10, 1, "conmon", *conmon(bundle))
    process(proc, 11, 10, "sh (a) 1 2")
    process(proc, 12, 11, "tail")
    (proc / "10/root").symlink_to("/")
    victim = replace(KILL.victim, ppid=12)
    for path in (f"/libpod_parent/libpod-{INNER}", "/user.slice"):
        event = replace(KILL, victim=victim, memcg=Memcg(1, path), trigger=None)
        found = ContainerLookup(frozenset(), proc).resolve(event, processes=True).victim
        assert found == Container(
            INNER, "podman", name="web", image=f"{REGISTRY}:1.2", image_id="a" * 64
        )


def test_a_rootless_containers_folder_outlives_its_monitor(tmp_path: Path, bundle: Path) -> None:
    """Rootless podman's mounts are its own, its folders are the host's: one place for all."""
    proc = tmp_path / "proc"
    for pid, of in ((10, "mnt:[1]"), ("self", "mnt:[2]"), (1, "mnt:[2]")):
        (proc / str(pid) / "ns").mkdir(parents=True)
        (proc / str(pid) / "ns/mnt").symlink_to(of)
    (proc / "10/root").symlink_to("/")
    for name, content in (("stat", "10 (conmon) S 1 0"), ("cmdline", "\0".join(conmon(bundle)))):
        (proc / "10" / name).write_text(content, encoding="ascii")
    (shim,) = shims.list_shims(proc)
    assert shim.bundle_dir == BundleDir(Path("/"), bundle.parents[1], "userdata")
    (proc / "10/root").unlink()
    (proc / "10/root").symlink_to(tmp_path)
    (shim,) = shims.list_shims(proc)
    assert shim.bundle_dir.root == proc / "10/root", "what is another's is no longer there later"


def test_the_usual_folders_are_of_users_too(tmp_path: Path) -> None:
    """Of those who are there now, by the host's own list of users."""
    for uid in ("1000", "1001"):
        (tmp_path / "run/user" / uid).mkdir(parents=True)
    folders = [tmp_path / home / ".local/share/containers/storage" for home in ("home/a", "b")]
    for folder in folders:
        (folder / "overlay-containers").mkdir(parents=True)
    users = "a:x:1000:1000::/home/a:/bin/sh\nb:x:1002:1002::/b:/bin/sh\n+\nc:x:1001:1::c:/bin/sh\n"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(users, encoding="ascii")
    assert [place.folder for place in find_bundle_dirs(tmp_path)] == [
        folders[0] / "overlay-containers"
    ]


def test_a_process_cant_pass_for_its_own_containers_monitor(tmp_path: Path, bundle: Path) -> None:
    """What has a monitor's name inside of the container is not believed."""
    proc = tmp_path / "proc"
    process(proc, 10, 1, "conmon", *conmon(bundle), cgroup=f"/libpod_parent/libpod-{INNER}")
    assert list(shims.find_shims(10, proc)) == []
    assert list(shims.list_shims(proc)) == []


@pytest.mark.parametrize("name", ["containerd-shim", "conmon"])
@pytest.mark.parametrize(
    "words", [(), ("-c",), ("-c", INNER, "-b", INNER), ("-id", "../.."), ("-c", INNER)]
)
def test_monitors_of_other_words_are_left(
    tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    """A name alone is no monitor."""
    process(tmp_path, 10, 1, name, *words)
    assert list(shims.find_shims(10, tmp_path)) == []


def test_files_of_others_may_hold_anything(tmp_path: Path) -> None:
    """No JSON, too deep, too large, a FIFO, a folder, nothing: each is had at once, as nothing."""
    (tmp_path / "text").write_text("{", encoding="ascii")
    (tmp_path / "deep").write_text("[" * 200_000, encoding="ascii")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(json_file.MAX_BYTES + 1)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    for name in ("text", "deep", "large", "fifo", "folder", "bytes", "nothing"):
        assert json_file.read_json(tmp_path / name) is None, name


@pytest.mark.parametrize("listed", [{}, [7, None, {"id": INNER, "names": 5, "metadata": []}], "x"])
def test_a_list_of_another_shape_leaves_the_bare_container(bundle: Path, listed: object) -> None:
    """What podman's list does not say is not known, and nothing fails."""
    write(bundle.parents[1] / "containers.json", listed)
    found = ContainerLookup(frozenset()).read_bundle(
        INNER, BundleDir(Path("/"), bundle.parents[1], "userdata")
    )
    assert found == Container(INNER, "podman")


def test_a_container_of_no_runtime_is_said_to_be_unknown(tmp_path: Path) -> None:
    """The id stands by itself, and why there is no more."""
    found = ContainerLookup(frozenset(), tmp_path).resolve(KILL, processes=True).victim
    assert found is not None
    assert found.runtime == "docker"
    assert found.name is None
    assert found.error == "not found in the files of any runtime"


def test_no_more_containers_are_kept_than_a_host_has(tmp_path: Path) -> None:
    """The oldest are forgotten."""
    finder = ContainerLookup(frozenset(), tmp_path)
    for number in range(3000):
        finder.add(Container(f"{number:064}"))
    assert finder.get(f"{0:064}") is None
    assert finder.get(f"{2999:064}") is not None
    assert finder.get(f"{3000 - 2048:064}") is not None


def test_half_a_character_in_a_runtimes_json_is_escaped() -> None:
    assert json_file.as_text(json.loads(r'"web\udc80"')) == r"web\udc80"
