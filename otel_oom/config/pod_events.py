"""Events on the pods of victims, by the API server of the pod in which the agent runs."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.config.endpoint import JSON, Endpoint
from otel_oom.config.variable import ConfigError, read_variable
from otel_oom.model.channel import channel_name

KUBERNETES_EVENTS: Final = "OTEL_OOM_KUBERNETES_EVENTS"

_SIGNAL: Final = "logs"
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet keeps the token of a pod's service account fresh."""
_MAX_INSTANCE_CHARS: Final = 128
"""Kubernetes, pkg/apis/core/validation/events.go."""


class PodEvents(Struct, frozen=True):
    """Exporter of log events as Events of Kubernetes.

    ``api`` is the API server, ``token`` the file with the credentials. ``instance`` is the name of
    the node, by which an Event names its reporter.
    """

    api: Endpoint
    token: Path
    instance: str
    signal: str = _SIGNAL

    @property
    def channel(self) -> str:
        """Return its channel in the outbox."""
        return channel_name(self.signal, "kubernetes_events")

    @property
    def host(self) -> str:
        """Return its destination: it backs off alone."""
        return self.channel

    @property
    def timeout_s(self) -> float:
        """Return the time for the requests of one batch, in seconds."""
        return self.api.timeout_s

    @property
    def redacted_url(self) -> str:
        """Return its name for messages."""
        return f"pod events of {self.api.redacted_url}"


def read_pod_events(environ: Mapping[str, str], account: Path = _ACCOUNT) -> PodEvents | None:
    """Return the exporter if it is on. Raises ConfigError where there is no service account."""
    variable = read_variable(environ, KUBERNETES_EVENTS)
    if not variable.flag():
        return None
    host = read_variable(environ, "KUBERNETES_SERVICE_HOST").text
    port = read_variable(environ, "KUBERNETES_SERVICE_PORT", default="443").text
    token, authority = account / "token", account / "ca.crt"
    if not (host and port.isdecimal() and token.is_file() and authority.is_file()):
        raise ConfigError(
            f"{variable.name} needs a pod with the token of a service account: set "
            "podEvents.enabled of the chart, or automountServiceAccountToken of the pod."
        )
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    api = Endpoint(_SIGNAL, JSON, f"https://{netloc}", certificate=authority)
    node = read_variable(environ, "K8S_NODE_NAME", default=socket.gethostname()).text
    return PodEvents(api, token, node[:_MAX_INSTANCE_CHARS])
