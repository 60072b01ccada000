"""JSON of a tenant: hostile in shape and size, and at paths that lead elsewhere."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.docker import DockerContainer
from otel_oom.linux.containers.json_file import MAX_BYTES, parse_json, read_json, select_texts
from otel_oom.linux.containers.oci_bundle import read_bundle
from otel_oom.model.snapshot import Container
from tests.testlib.opens import watch_opens

ID, SANDBOX = "1" * 64, "2" * 64


def fill(begin: str, unit: str, end: str, size: int = MAX_BYTES) -> bytes:
    count = (size - len(begin) - len(end)) // len(unit)
    return f"{begin}{(unit * count).rstrip(',')}{end}".encode()


HOSTILE = {
    "objects": fill("[", "{},", "]"),
    "nested": fill("[", "[[0]],", "]"),
    "deep": b"[" * MAX_BYTES,
    "deep in a skipped field": b'{"x":' + b"[" * (MAX_BYTES - 10),
    "mounts": fill('{"mounts":[', '{"destination":"ab","source":"ab"},', "]}"),
    "small mounts": fill('{"mounts":[', '{"destination":""},', "]}"),
    "annotations": fill('{"annotations":{', '"":{"":0},', "}}"),
    "one annotation": fill('{"annotations":{"io.container.manager":[', "{},", "]}}"),
    "a long annotation": fill('{"annotations":{"io.container.manager":"', "x", '"}}'),
    "labels": fill('{"Config":{"Labels":{', '"":{"":0},', "}}}"),
    "entries": fill("[", '{"id":"ab"},', "]"),
}


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_of_any_shape_takes_little_memory(tmp_path: Path, name: str) -> None:
    """Parsed into objects, 4 MiB of it took 141 MB, of the 128 that the agent may have."""
    podman = tmp_path / "podman"
    manager = json.dumps({"annotations": {"io.container.manager": "libpod"}}).encode()
    mounts = [{"destination": "/etc/hosts", "source": f"/docker/containers/{ID}/hosts"}]
    write(tmp_path / "run" / ID / "config.json", HOSTILE[name])
    write(podman / ID / "userdata/config.json", manager)
    write(podman / "containers.json", HOSTILE[name])
    write(tmp_path / "run" / SANDBOX / "config.json", json.dumps({"mounts": mounts}).encode())
    write(tmp_path / "docker/containers" / ID / "config.v2.json", HOSTILE[name])
    labels = frozenset({"team"})
    tracemalloc.start()
    try:
        read_bundle(ID, BundleDir(tmp_path, Path("/run")), labels)
        read_bundle(ID, BundleDir(tmp_path, Path("/podman"), "userdata"), labels)
        read_bundle(SANDBOX, BundleDir(tmp_path, Path("/run")), labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20
    with (tmp_path / "run" / ID / "config.json").open("ab") as file:
        file.write(b" " * MAX_BYTES)
    assert read_bundle(ID, BundleDir(tmp_path, Path("/run")), labels) is None, "too large"


@pytest.mark.parametrize("name", ["config.json", "config.v2.json", "containers.json"])
def test_no_link_in_a_bundle_opens_a_device(tmp_path: Path, name: str) -> None:
    """A pipe stands for it: here any open of either is noticed."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / name).symlink_to(tmp_path / "pipe")
    for root, path in ((Path("/"), tmp_path / name), (tmp_path, Path(name))):
        with watch_opens(tmp_path / "pipe") as was_opened:
            assert read_json(root, path, DockerContainer) is None
            assert not was_opened()


@pytest.mark.parametrize(
    "content", [b"{", b"", b"\xff\xfe\xff", b"[]", b"7", b'{"Config":5}', b'{"Name":"\\udc80"}']
)
def test_other_content_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert read_json(tmp_path, Path("file"), DockerContainer) is None
    assert read_json(tmp_path, Path("nothing"), DockerContainer) is None
    assert read_json(tmp_path, Path("/"), DockerContainer) is None


def test_a_file_of_another_owner_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    path, own = Path("file"), os.geteuid()
    assert read_json(tmp_path, path, DockerContainer, owner=own) == DockerContainer()
    assert read_json(tmp_path, path, DockerContainer, owner=own + 1) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "1", "b": "2", "other": "3"}, {"a": "1", "b": "2"}),
        ({"a": 1, "b": None}, {}),
        ({"a": {"b": "x"}, "b": "2"}, {"b": "2"}),
        ({"a": ""}, {}),
        ({"a": "x" * 5000}, {"a": "x" * 1024}),
        ([], {}),
        (None, {}),
    ],
)
def test_selected_texts_are_strings_of_bounded_length(value: Any, expected: Any) -> None:  # noqa: ANN401  JSON
    content = json.dumps(value)
    assert select_texts(content, frozenset({"a", "b"})) == expected
    assert select_texts(content, frozenset()) == {}
    assert parse_json("[" * 100_000, list[object]) is None


def test_a_pod_of_cri_o_has_the_labels_of_its_sandbox(tmp_path: Path) -> None:
    prefix = "io.kubernetes.cri-o"
    annotations = {
        f"{prefix}.ContainerType": "container",
        f"{prefix}.SandboxID": SANDBOX,
        f"{prefix}.Name": "web",
        f"{prefix}.ImageRef": "a" * 64,
        f"{prefix}.Labels": json.dumps({"team": "shop", "x" * 2000: "y"}),
        "secret": "x",
    }
    sandbox = {f"{prefix}.Labels": json.dumps({"team": "pod's", "tier": "1"})}
    for container_id, each in ((ID, annotations), (SANDBOX, sandbox)):
        content = json.dumps({"annotations": each}).encode()
        write(tmp_path / "run" / container_id / "config.json", content)
    found = read_bundle(ID, BundleDir(tmp_path, Path("/run")), frozenset({"team", "tier"}))
    assert found is not None
    assert found.container == Container(
        ID,
        "cri-o",
        name="web",
        image_id="a" * 64,
        labels={"team": "shop", "tier": "1"},
        annotations={f"{prefix}.{key}": annotations[f"{prefix}.{key}"] for key in KEPT},
    )


KEPT = ("ContainerType", "SandboxID", "Name")
