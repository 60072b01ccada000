"""The settings of pod events, as a pod has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_oom.config.agent import read_agent_config
from otel_oom.config.pod_events import read_pod_events
from otel_oom.config.variable import ConfigError

ON = {"OTEL_OOM_KUBERNETES_EVENTS": "true"}


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """The folder of a service account."""
    for name in ("token", "ca.crt"):
        (tmp_path / name).write_text("x", encoding="ascii")
    return tmp_path


@pytest.mark.parametrize(
    ("host", "url"),
    [("10.96.0.1", "https://10.96.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")],
)
def test_the_api_server_is_that_of_the_pod(account: Path, host: str, url: str) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": "6443"}
    found = read_pod_events({**ON, **pod, "K8S_NODE_NAME": "n" * 200}, account)
    assert found is not None
    assert (found.api.url, found.api.secure) == (url, True)
    assert (found.token, found.api.certificate) == (account / "token", account / "ca.crt")
    assert found.instance == "n" * 128
    assert found.channel == "logs:kubernetes_events"


def test_off_by_default(account: Path) -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert read_pod_events(pod, account) is None
    assert read_agent_config(pod).otlp.channels == {"logs": ("logs",), "traces": ("traces",)}


def test_outside_of_a_pod_it_is_an_error(account: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"OTEL_OOM_KUBERNETES_EVENTS needs a pod with the token"):
        read_pod_events(ON, account)
    with pytest.raises(ConfigError, match=r"podEvents\.enabled"):
        read_pod_events({**ON, "KUBERNETES_SERVICE_HOST": "10.96.0.1"}, tmp_path / "none")
