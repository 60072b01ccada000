"""The manifest for Kubernetes, compared with the agent and with the systemd unit."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from otel_oom import cli
from otel_oom.commands.doctor.alive import TIMEOUT_S
from otel_oom.config.otlp import read_otlp_config
from otel_oom.linux.rights import BPFFS
from tests.testlib.repository import REPOSITORY

EXAMPLES = REPOSITORY / "deploy"
UNIT = (EXAMPLES / "systemd/otel-oom.service").read_text(encoding="utf-8")
MANIFEST = (EXAMPLES / "kubernetes/otel-oom.yaml").read_text(encoding="utf-8")
OBJECTS: dict[str, Any] = {each["kind"]: each for each in yaml.safe_load_all(MANIFEST)}
DAEMON_SET = OBJECTS["DaemonSet"]
SPEC = DAEMON_SET["spec"]["template"]["spec"]
(CONTAINER,) = SPEC["containers"]
MOUNTS = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}


def test_names_selectors_and_volumes_match() -> None:
    """Each mount has its volume, and no volume is unused."""
    namespaces = {each["metadata"].get("namespace", "otel-oom") for each in OBJECTS.values()}
    assert namespaces == {OBJECTS["Namespace"]["metadata"]["name"]}
    selector = DAEMON_SET["spec"]["selector"]["matchLabels"]
    assert selector.items() <= DAEMON_SET["spec"]["template"]["metadata"]["labels"].items()
    assert SPEC["serviceAccountName"] == OBJECTS["ServiceAccount"]["metadata"]["name"]
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


def test_no_token_of_the_api_is_mounted() -> None:
    assert OBJECTS["ServiceAccount"]["automountServiceAccountToken"] is False
    assert SPEC["automountServiceAccountToken"] is False


@pytest.mark.parametrize("kind", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_query_the_agent_itself(kind: str) -> None:
    """They find the agent by its default state directory, and wait longer than the command."""
    probe = CONTAINER[kind]
    program, *words = probe["exec"]["command"]
    arguments = cli.build_parser().parse_args(words)
    assert (program, arguments.alive) == ("otel-oom", True)
    agent = cli.build_parser().parse_args(CONTAINER["args"])
    assert arguments.state_dir == agent.state_dir
    assert probe["timeoutSeconds"] > TIMEOUT_S
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


def test_each_platform_of_the_chart_is_in_the_table() -> None:
    """With what was run there, or only read."""
    platforms = (EXAMPLES / "kubernetes/chart/platforms.yaml").read_text(encoding="utf-8")
    page = (REPOSITORY / "docs/kubernetes.md").read_text(encoding="utf-8")
    _, _, table = page.partition("## Platforms")
    rows = re.findall(r"(?m)^\| `(\w+)` \|.*\| (?:\*\*run\*\*|read|not run)", table)
    assert rows == list(yaml.safe_load(platforms))
