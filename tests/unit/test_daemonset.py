"""The manifest for Kubernetes, compared with the agent and with the systemd unit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_oom import cli
from otel_oom.capture.bpf.bpffs import BPFFS
from otel_oom.capture.source import VMLINUX_BTF
from otel_oom.commands.doctor.alive import TIMEOUT_S
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


def test_names_selectors_and_volumes_match() -> None:
    """Each mount has its volume, and no volume is unused."""
    namespace, daemons = OBJECTS
    assert daemons["metadata"]["namespace"] == namespace["metadata"]["name"]
    selector = daemons["spec"]["selector"]["matchLabels"]
    assert daemons["spec"]["template"]["metadata"]["labels"] == selector
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in SPEC["volumes"]}
    assert volumes == {mount["name"]: path for path, mount in MOUNTS.items()}


def test_capabilities_and_memory_are_those_of_the_systemd_unit() -> None:
    (bounding,) = re.findall(r"(?m)^CapabilityBoundingSet=(.+)$", UNIT)
    rights = CONTAINER["securityContext"]["capabilities"]
    assert rights["drop"] == ["ALL"]
    assert [f"CAP_{name}" for name in rights["add"]] == bounding.split()
    (maximum,) = re.findall(r"(?m)^MemoryMax=(.+)$", UNIT)
    (minimum,) = re.findall(r"(?m)^MemoryMin=(.+)$", UNIT)
    assert CONTAINER["resources"]["limits"]["memory"] == f"{maximum}i"
    assert CONTAINER["resources"]["requests"]["memory"] == f"{minimum}i"
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]
    assert not CONTAINER["securityContext"]["allowPrivilegeEscalation"]


def test_mounts_are_the_folders_that_the_agent_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """State and bpffs are writable, the kernel's files are readable."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    arguments = cli.build_parser().parse_args(CONTAINER["args"])
    writable = {path for path, mount in MOUNTS.items() if not mount.get("readOnly")}
    assert writable == {str(arguments.state_dir), str(BPFFS)}
    assert arguments.pin_dir.is_relative_to(BPFFS)
    assert str(VMLINUX_BTF.parent) in MOUNTS
    tracing = Path("/sys/kernel/tracing")
    assert str(tracing) in MOUNTS
    assert any(path.is_relative_to(tracing) for path in gfp_flags.FORMAT_FILES)


def test_the_liveness_probe_asks_the_agent_itself() -> None:
    """It finds the agent by its default state directory, and waits longer than the command."""
    probe = CONTAINER["livenessProbe"]
    program, *words = probe["exec"]["command"]
    arguments = cli.build_parser().parse_args(words)
    assert (program, arguments.alive) == ("otel-oom", True)
    agent = cli.build_parser().parse_args(CONTAINER["args"])
    assert arguments.state_dir == agent.state_dir
    assert TIMEOUT_S < probe["timeoutSeconds"] < probe["periodSeconds"]
    # A host that is out of memory is slow: one failure is none.
    assert probe["failureThreshold"] > 1


def test_variables_name_the_node() -> None:
    """With the kubelet's substitution, by both of its names."""
    environ = {item["name"]: item.get("value", "") for item in CONTAINER["env"]}
    environ["K8S_NODE_NAME"] = "node-1"
    for name, value in environ.items():
        environ[name] = value.replace("$(K8S_NODE_NAME)", "node-1")
    config = read_otlp_config(environ)
    assert config.resource == {"host.name": "node-1", "k8s.node.name": "node-1"}
    assert {endpoint.url.rpartition("/v1/")[0] for endpoint in config.endpoints} == {
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    }
    names = [item["name"] for item in CONTAINER["env"]]
    # The kubelet substitutes earlier variables only.
    assert names.index("K8S_NODE_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")
