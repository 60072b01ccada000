"""The manifest for Kubernetes, held against what the agent reads, takes and needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_oom import cli
from otel_oom.capture.bpf.bpffs import BPFFS
from otel_oom.capture.source import VMLINUX_BTF
from otel_oom.config.otlp import read_otlp_config
from otel_oom.linux import gfp_flags
from tests.testlib.repository import REPOSITORY

EXAMPLES = REPOSITORY / "deploy"
UNIT = (EXAMPLES / "systemd/otel-oom.service").read_text(encoding="utf-8")
OBJECTS = list(
    yaml.safe_load_all((EXAMPLES / "kubernetes/daemonset.yaml").read_text(encoding="utf-8"))
)
SPEC: dict[str, Any] = OBJECTS[1]["spec"]["template"]["spec"]
(CONTAINER,) = SPEC["containers"]
MOUNTS = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}


def test_its_parts_belong_together() -> None:
    """Namespace, selector and labels match, and each mount has its volume and no other has one."""
    namespace, daemons = OBJECTS
    assert daemons["metadata"]["namespace"] == namespace["metadata"]["name"]
    selector = daemons["spec"]["selector"]["matchLabels"]
    assert daemons["spec"]["template"]["metadata"]["labels"] == selector
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in SPEC["volumes"]}
    assert volumes == {mount["name"]: path for path, mount in MOUNTS.items()}


def test_it_has_the_rights_of_the_systemd_unit() -> None:
    """The same capabilities and the same memory: neither is told twice in two ways."""
    (bounding,) = re.findall(r"(?m)^CapabilityBoundingSet=(.+)$", UNIT)
    rights = CONTAINER["securityContext"]["capabilities"]
    assert rights["drop"] == ["ALL"]
    assert [f"CAP_{name}" for name in rights["add"]] == bounding.split()
    (most,) = re.findall(r"(?m)^MemoryMax=(.+)$", UNIT)
    (least,) = re.findall(r"(?m)^MemoryMin=(.+)$", UNIT)
    assert CONTAINER["resources"]["limits"]["memory"] == f"{most}i"
    assert CONTAINER["resources"]["requests"]["memory"] == f"{least}i"
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    assert not CONTAINER["securityContext"]["allowPrivilegeEscalation"]


def test_its_mounts_are_what_the_agent_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state's default folder can be written to; the kernel's files are there to be read."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    arguments = cli.build_parser().parse_args(CONTAINER["args"])
    writable = {path for path, mount in MOUNTS.items() if not mount.get("readOnly")}
    assert writable == {str(arguments.state_dir), str(BPFFS)}
    assert arguments.pin_dir.is_relative_to(BPFFS)
    assert str(VMLINUX_BTF.parent) in MOUNTS
    tracing = Path("/sys/kernel/tracing")
    assert str(tracing) in MOUNTS
    assert any(path.is_relative_to(tracing) for path in gfp_flags.FORMAT_FILES)


def test_its_variables_are_read() -> None:
    """With the kubelet's substitution, the node is told by both of its names."""
    environ = {item["name"]: item.get("value", "") for item in CONTAINER["env"]}
    environ["K8S_NODE_NAME"] = "node-1"
    for name, value in environ.items():
        environ[name] = value.replace("$(K8S_NODE_NAME)", "node-1")
    read = read_otlp_config(environ)
    assert read.resource == {"host.name": "node-1", "k8s.node.name": "node-1"}
    assert {endpoint.url.rpartition("/v1/")[0] for endpoint in read.endpoints} == {
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    }
    names = [item["name"] for item in CONTAINER["env"]]
    # The kubelet replaces only what stands before it.
    assert names.index("K8S_NODE_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")
