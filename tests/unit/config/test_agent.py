"""All settings of the agent together, and where they are defined."""

from __future__ import annotations

import re

import pytest

from otel_oom.config.agent import (
    OWN_VARIABLES,
    read_agent_config,
    read_notify_socket,
    read_watchdog_interval_s,
)
from otel_oom.config.store import StoreLimits
from otel_oom.config.variable import ConfigError
from tests.testlib.repository import REPOSITORY


def test_defaults() -> None:
    config = read_agent_config({})
    assert config.metrics is not None
    assert config.store_limits == StoreLimits()
    assert config.container_labels == frozenset()
    assert config.claimed_identity


def test_claims_of_victims_can_be_switched_off() -> None:
    assert not read_agent_config({"OTEL_OOM_CLAIMED_IDENTITY": "false"}).claimed_identity
    with pytest.raises(ConfigError, match="OTEL_OOM_CLAIMED_IDENTITY='no' is invalid: use true or"):
        read_agent_config({"OTEL_OOM_CLAIMED_IDENTITY": "no"})


def test_ignored_values_and_unread_variables_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All signals share the first; the others are in one line."""
    read_agent_config(
        {
            "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
            "OTEL_PROPAGATORS": "b3",
            "OTEL_BSP_SCHEDULE_DELAY": "1",
        }
    )
    ignored, unread = (record.getMessage() for record in caplog.records)
    assert ignored.startswith("OTEL_EXPORTER_OTLP_COMPRESSION='zip' is invalid: ")
    assert unread.startswith("Not read: OTEL_BSP_SCHEDULE_DELAY, OTEL_PROPAGATORS. ")


def test_own_variables_are_defined_in_config_alone() -> None:
    package = REPOSITORY / "otel_oom"
    users = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if re.search(r'"OTEL_OOM_\w+"', path.read_text(encoding="utf-8"))
    }
    assert users == {"config"}


def test_all_own_variables_are_documented_and_known() -> None:
    """What is not known counts as misspelt, which is a warning."""
    page = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    assert set(re.findall(r"OTEL_OOM_\w+", page)) == OWN_VARIABLES


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
    ],
)
def test_interval_is_half_of_the_timeout(environ: dict[str, str], seconds: float | None) -> None:
    """As in sd_watchdog_enabled(3), and only for the process that is meant."""
    assert read_watchdog_interval_s(environ, pid=7) == seconds


@pytest.mark.parametrize(
    ("value", "address"), [("", ""), ("/run/notify", "/run/notify"), ("@abstract", "\0abstract")]
)
def test_notify_socket(value: str, address: str) -> None:
    assert read_notify_socket({"NOTIFY_SOCKET": value}) == address
