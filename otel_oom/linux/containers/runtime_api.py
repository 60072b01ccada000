"""What only a runtime's API tells: HTTP over its Unix socket, as Docker and podman both serve it.

Docker's API, ``GET /containers/{id}/json`` and ``GET /version``; podman answers to the same.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from otel_oom.linux.containers import json_file
from otel_oom.model.container import Container, bounded_text, bounded_texts

_DEADLINE_S: Final = 3.0
"""A host without memory is slow, and podman answers for no container that it is cleaning up."""

_DEAD_S: Final = 60.0
"""How long a socket that did not answer is left alone."""

_MOST_BYTES: Final = 1 << 20
_OK: Final = 200
_SOCKETS: Final = {
    "docker": ("DOCKER_HOST", "/run/docker.sock"),
    "podman": ("CONTAINER_HOST", "/run/podman/podman.sock"),
}
_SCHEME: Final = "unix://"


class Api:
    """The sockets of the host's runtimes. For one thread, which may wait for them."""

    def __init__(self, labels: frozenset[str], environ: Mapping[str, str]) -> None:
        """Ask for the labels with the keys ``labels``, at the runtimes' own addresses.

        ``environ`` has another socket's where ``DOCKER_HOST`` or ``CONTAINER_HOST`` begins with
        ``unix://``.
        """
        self._labels = labels
        self._paths = {name: _path(environ, *at) for name, at in _SOCKETS.items()}
        self._dead_until: dict[str, float] = {}
        self._versions: dict[str, str | None] = {}

    def complete(self, container: Container) -> Container:
        """The container with its runtime's version, and with what no file told of it."""
        runtime = container.runtime
        if runtime not in self._paths:
            return container
        if runtime not in self._versions:
            said = self._get(runtime, "/version")
            if said is not None:
                self._versions[runtime] = bounded_text(said.get("Version"))
        version = self._versions.get(runtime)
        untold = container.name is None or (bool(self._labels) and not container.labels)
        said = self._get(runtime, f"/containers/{container.id}/json") if untold else None
        if said is None:
            error = container.error
            if untold:
                error = error or f"no answer about it at {self._paths[runtime]}"
            return replace(container, runtime_version=version, error=error)
        config = json_file.mapping(said.get("Config"))
        name = (bounded_text(said.get("Name")) or "").removeprefix("/") or None
        return replace(
            container,
            runtime_version=version,
            name=container.name or name,
            image=container.image or bounded_text(config.get("Image")),
            image_id=container.image_id or bounded_text(said.get("Image")),
            labels=bounded_texts(config.get("Labels"), self._labels),
            error=None,
        )

    def _get(self, runtime: str, target: str) -> Mapping[str, Any] | None:
        """The answer; ``None`` if there is none, or none was given lately."""
        if time.monotonic() < self._dead_until.get(runtime, 0.0):
            return None
        try:
            status, body = _request(self._paths[runtime], target)
        except (OSError, http.client.HTTPException):
            self._dead_until[runtime] = time.monotonic() + _DEAD_S
            return None
        return json_file.mapping(json_file.parse(body)) if status == _OK else None


class _Socket(socket.socket):
    """A socket whose every read ends at one deadline, however slowly bytes come."""

    deadline = 0.0

    def recv_into(self, *arguments: Any) -> int:  # noqa: ANN401  socket's own
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)
        return super().recv_into(*arguments)


def _request(path: str, target: str) -> tuple[int, bytes]:
    """Status and body; raises OSError or HTTPException."""
    with _Socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connected:
        connected.deadline = time.monotonic() + _DEADLINE_S
        connected.settimeout(_DEADLINE_S)
        connected.connect(path)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = connected
        connection.request("GET", target, headers={"Connection": "close"})
        with connection.getresponse() as response:
            return response.status, response.read(_MOST_BYTES)


def _path(environ: Mapping[str, str], variable: str, usual: str) -> str:
    address = environ.get(variable, "")
    return str(Path(address.removeprefix(_SCHEME))) if address.startswith(_SCHEME) else usual
