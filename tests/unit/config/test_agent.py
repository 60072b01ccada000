"""All settings of the agent together, and where they are defined."""

from __future__ import annotations

import re

import pytest

from otel_oom.config.agent import read_agent_config
from otel_oom.config.store import StoreLimits
from tests.testlib.repository import REPOSITORY


def test_defaults() -> None:
    config = read_agent_config({})
    assert config.metrics is not None
    assert config.store_limits == StoreLimits()
    assert config.container_labels == frozenset()


def test_an_invalid_variable_of_metrics_only_turns_metrics_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = read_agent_config({"OTEL_METRICS_EXPORTER": "prometheus"})
    assert config.metrics is None
    assert "OTEL_METRICS_EXPORTER='prometheus' is invalid" in caplog.text


def test_own_variables_are_defined_in_config_alone() -> None:
    package = REPOSITORY / "otel_oom"
    users = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if re.search(r'"OTEL_OOM_\w+"', path.read_text(encoding="utf-8"))
    }
    assert users == {"config"}
