"""The runtimes' API: HTTP over a Unix socket, which Docker and podman serve alike.

Docker's API: ``GET /containers/{id}/json`` and ``GET /version``.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.linux.containers.docker import DockerContainer, add_fields
from otel_oom.linux.containers.json_file import bound_text, parse_json
from otel_oom.linux.time_budget import TimeBudget
from otel_oom.model.snapshot import Container

_DEADLINE_S: Final = 3.0
"""A host without memory is slow, and podman does not respond for a container in cleanup."""

_BUDGET_S: Final = 3.0
_WINDOW_S: Final = 60.0
"""A runtime gets no more requests for this time once its responses took :data:`_BUDGET_S`.

One that does not respond gets one request. Deliveries of all tenants wait for it meanwhile.
"""

_MAX_BYTES: Final = 1 << 20
_OK: Final = 200
_SOCKETS: Final = {
    "docker": ("DOCKER_HOST", "/run/docker.sock"),
    "podman": ("CONTAINER_HOST", "/run/podman/podman.sock"),
}
_SCHEME: Final = "unix://"
_T = TypeVar("_T")


class _Version(Struct, frozen=True, rename="pascal"):
    version: str | None = None


class RuntimeApi:
    """A client of the host's runtimes, for one thread that may wait for them."""

    def __init__(self, labels: frozenset[str], environ: Mapping[str, str]) -> None:
        """Request the labels with the keys ``labels``, at the runtimes' own addresses.

        ``DOCKER_HOST`` or ``CONTAINER_HOST`` in ``environ`` names another socket if it begins with
        ``unix://``.
        """
        self._labels = labels
        self._paths = {name: _socket_path(environ, *spec) for name, spec in _SOCKETS.items()}
        self._budgets = {name: TimeBudget(_BUDGET_S, _WINDOW_S) for name in _SOCKETS}
        self._versions: dict[str, str | None] = {}

    def add_details(self, container: Container) -> Container:
        """Return the container with its runtime's version, and with what no file has of it."""
        runtime = container.runtime
        if runtime not in self._paths:
            return container
        if runtime not in self._versions:
            response = self._get(runtime, "/version", _Version)
            if response is not None:
                self._versions[runtime] = bound_text(response.version)
        version = self._versions.get(runtime)
        incomplete = container.name is None or (bool(self._labels) and not container.labels)
        target = f"/containers/{container.id}/json"
        details = self._get(runtime, target, DockerContainer) if incomplete else None
        if details is None:
            error = container.error
            if incomplete:
                error = error or f"no response from the runtime's API at {self._paths[runtime]}"
            return replace(container, runtime_version=version, error=error)
        complete = add_fields(container, details, self._labels)
        return replace(complete, runtime_version=version, error=None)

    def _get(self, runtime: str, target: str, kind: type[_T]) -> _T | None:
        """Return the response; ``None`` if there is none, or the runtime was slow lately."""
        budget = self._budgets[runtime]
        if budget.is_exhausted:
            return None
        try:
            with budget.spend():
                status, body = _request(self._paths[runtime], target)
        except (OSError, http.client.HTTPException):
            budget.exhaust()
            return None
        return (parse_json(body, kind) or kind()) if status == _OK else None


class _DeadlineSocket(socket.socket):
    """A socket whose reads all end at one deadline, however slowly bytes arrive."""

    deadline = 0.0

    def recv_into(self, *arguments: Any) -> int:  # noqa: ANN401  socket's own
        remaining_s = self.deadline - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError
        self.settimeout(remaining_s)
        return super().recv_into(*arguments)


def _request(path: str, target: str) -> tuple[int, bytes]:
    """Return status and body; raises OSError or HTTPException."""
    with _DeadlineSocket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connected:
        connected.deadline = time.monotonic() + _DEADLINE_S
        connected.settimeout(_DEADLINE_S)
        connected.connect(path)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connected
        connection.request("GET", target, headers={"Connection": "close"})
        with connection.getresponse() as response:
            return response.status, response.read(_MAX_BYTES)


def _socket_path(environ: Mapping[str, str], variable: str, default: str) -> str:
    address = environ.get(variable, "")
    return str(Path(address.removeprefix(_SCHEME))) if address.startswith(_SCHEME) else default
