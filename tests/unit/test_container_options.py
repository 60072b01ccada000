"""The options of containers: README, docs/install.md, compose.yaml and the unit agree."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import yaml

from tests.testlib.containers.agent_container import read_documented_command
from tests.testlib.repository import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
INSTALL = (REPOSITORY / "docs/install.md").read_text(encoding="utf-8")
UNIT = (REPOSITORY / "otel_oom/commands/unit/otel-oom.service").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(
    (REPOSITORY / "deploy/container/compose.yaml").read_text(encoding="utf-8")
)


def read_options() -> dict[str, list[str]]:
    """Return the values of each option of the documented command, by its name."""
    options = defaultdict(list)
    for word in read_documented_command("run --detach"):
        if word.startswith("--"):
            name, _, value = word.partition("=")
            options[name].append(value)
    return options


def test_readme_and_install_have_the_same_command() -> None:
    (command,) = re.findall(r"(?s)```\n(sudo podman run --detach.*?)```", README)
    assert command in INSTALL


def test_the_capabilities_are_those_of_the_unit() -> None:
    (bounding,) = re.findall(r"(?m)^CapabilityBoundingSet=(.+)$", UNIT)
    assert [f"CAP_{name}" for name in read_options()["--cap-add"]] == bounding.split()
    assert read_options()["--cap-drop"] == ["ALL"]


def test_compose_has_the_options_of_the_command() -> None:
    options, service = read_options(), COMPOSE["services"]["otel-oom"]
    assert service["cap_add"] == options["--cap-add"]
    assert service["cap_drop"] == options["--cap-drop"]
    assert service["security_opt"] == options["--security-opt"]
    assert service["devices"] == options["--device"]
    assert [service["user"]] == options["--user"]
    assert [service["pid"]] == options["--pid"]
    assert [service["network_mode"]] == options["--network"]
    assert [service["mem_limit"]] == options["--memory"]
    assert [str(service["oom_score_adj"])] == options["--oom-score-adj"]
    assert service["read_only"]
    state, *volumes = service["volumes"]
    named, *mounted = options["--volume"]
    assert volumes == mounted
    assert state.partition(":")[2] == named.partition(":")[2]
