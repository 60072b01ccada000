"""What a container was started with, out of its bundle or Docker's own file: the allowed part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.docker import DockerContainer, add_fields
from otel_oom.linux.containers.json_file import parse_json
from otel_oom.linux.containers.oci_bundle import read_bundle
from otel_oom.model.snapshot import Container
from otel_oom.model.start_settings import CONTAINER, StartSettings

ID = "ab" * 32
ENVIRON = ["PASSWORD=hunter2", "OTEL_SERVICE_NAME=shop", "NODE_OPTIONS=--max-old-space-size=900"]
SETTINGS = StartSettings(
    CONTAINER,
    {"OTEL_SERVICE_NAME": "shop"},
    {"NODE_OPTIONS": "--max-old-space-size=900", "--max-old-space-size": "512"},
)
COMMAND = ["node", "--max-old-space-size=512", "server.js", "--token=hunter2"]


def read_start(root: Path, process: object) -> StartSettings | None:
    """Return what is kept of a bundle whose config.json has this ``process``."""
    bundle_dir = BundleDir(root, Path("/bundles"))
    folder = root / "bundles" / ID
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"process": process}), encoding="utf-8")
    bundle = read_bundle(ID, bundle_dir, frozenset())
    assert bundle
    assert "hunter2" not in repr(bundle)
    return bundle.container.start


def test_a_bundle_has_the_allowed_part(tmp_path: Path) -> None:
    assert read_start(tmp_path, {"args": COMMAND, "env": ENVIRON, "cwd": "/"}) == SETTINGS


@pytest.mark.parametrize("process", [None, 7, {"env": {}}, {"env": [7]}, {"args": "x", "env": []}])
def test_a_malformed_process_hides_no_container(tmp_path: Path, process: object) -> None:
    assert read_start(tmp_path, process) is None


def test_dockers_own_file_has_the_same() -> None:
    text = json.dumps({"Path": COMMAND[0], "Args": COMMAND[1:], "Config": {"Env": ENVIRON}})
    details = parse_json(text, DockerContainer)
    assert details
    assert add_fields(Container(ID), details, frozenset()).start == SETTINGS
