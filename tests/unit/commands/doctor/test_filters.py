"""Doctor names the filters that are set, and a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.commands.doctor import FAIL, OK, Check
from otel_oom.commands.doctor.endpoints import check_delivery


def checks(monkeypatch: pytest.MonkeyPatch, **environ: str) -> list[Check]:
    """Return the checks of an agent that sends nothing."""
    for name, value in {"OTEL_SDK_DISABLED": "true", **environ}.items():
        monkeypatch.setenv(name, value)
    return list(check_delivery(Path("/nonexistent")))


def test_filters_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"OTEL_OOM_EXCLUDE": "comm=a", "OTEL_OOM_DROP_ATTRIBUTES": "host.*"}
    (check,) = (each for each in checks(monkeypatch, **rules) if each.name == "filters")
    assert check.state == OK
    assert check.detail.startswith("OTEL_OOM_EXCLUDE, OTEL_OOM_DROP_ATTRIBUTES; ")


def test_no_filter_is_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "filters" not in {each.name for each in checks(monkeypatch)}


def test_a_wrong_rule_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = (
        each for each in checks(monkeypatch, OTEL_OOM_INCLUDE="scope=all") if each.state == FAIL
    )
    assert check.detail == "OTEL_OOM_INCLUDE='scope=all' is invalid"
    assert check.advice is not None
    assert check.advice.startswith("Use rules such as cgroup=")
