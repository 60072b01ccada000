"""The host of an event: the resource attributes that its events share, and its symbols."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace
from opentelemetry.util.types import AttributeValue

from otel_oom.enrich.claims import ClaimBudget
from otel_oom.enrich.kubernetes import WORKLOADS
from otel_oom.enrich.types import Attributes
from otel_oom.enrich.user_stack import UserSymbolizer
from otel_oom.linux.containers.bundle_dirs import find_init_root
from otel_oom.linux.untrusted_file import open_root, open_untrusted
from otel_oom.model.event_base import Event, OomEvent

_AGENT_PREFIXES: Final = (
    *("service.", "telemetry.", "process.", "container."),
    *(f"k8s.{kind}." for kind in ("container", "pod", "namespace", *WORKLOADS)),
)
"""Resource attributes that describe the agent itself, where its own environment sets them."""

# Values of host.arch (semantic conventions) by the machine of uname(2).
_ARCH: Final = {
    "x86_64": "amd64",
    "i386": "x86",
    "i686": "x86",
    "aarch64": "arm64",
    "armv7l": "arm32",
    "ppc64le": "ppc64",
    "ppc64": "ppc64",
    "s390x": "s390x",
}

_MAX_FILE_CHARS: Final = 16384


class Host(Struct, frozen=True):
    """A host with its resource attributes and the symbolizer of its programs.

    ``configured`` are those of the attributes that the user sets for the environment. ``claims``
    bounds what victims claim for themselves; ``None`` ignores it.
    """

    attributes: Attributes
    symbolizer: UserSymbolizer
    configured: Attributes = {}
    claims: ClaimBudget | None = field(default_factory=ClaimBudget)

    def of_event(self, event: Event) -> Host:
        """Return the host of ``event``: for an event from a log, the host of that log.

        The log comes before the user's own attributes, unless any program can have written it.
        """
        provenance = event.provenance if isinstance(event, OomEvent) else None
        if provenance is None:
            return self
        values = {"host.name": provenance.host, "host.id": provenance.host_id, "os.type": "linux"}
        of_log = {name: value for name, value in values.items() if value is not None}
        if provenance.is_unverified:
            return replace(self, attributes={**of_log, **self.configured})
        return replace(self, attributes={**self.configured, **of_log})


def create_host(
    own: Attributes,
    detected: Attributes,
    configured: Attributes,
    symbolizer: UserSymbolizer,
    *,
    claimed_identity: bool,
) -> Host:
    """Create the host of these ``own`` attributes, and those of detectors and of the user.

    ``claimed_identity`` is whether a victim's own environment may name its service.
    """
    return Host(
        host_resource(own, {**detected, **configured}),
        symbolizer,
        environment_attributes(configured),
        ClaimBudget() if claimed_identity else None,
    )


def environment_attributes(configured: Attributes) -> dict[str, AttributeValue]:
    """Return the attributes of ``OTEL_RESOURCE_ATTRIBUTES`` that do not describe the agent.

    A deployment environment, a cluster or a region applies to every victim of the host; the
    agent's own service, process or container does not.
    """
    return {k: v for k, v in configured.items() if not k.startswith(_AGENT_PREFIXES)}


def host_resource(detected: Attributes, configured: Attributes) -> dict[str, AttributeValue]:
    """Return the attributes that all events of the host share.

    Configured attributes override detected ones, which inside a container are the container's.
    """
    return {**detected, **environment_attributes(configured)}


def host_attributes(root: Path | None = None) -> dict[str, str]:
    """Return ``host.*`` and ``os.*`` of this host; unreadable ones are omitted.

    ``root`` is by default the root directory of init: in a container, ``/`` is that of an image.
    """
    root = root or _find_host_root()
    uname = os.uname()
    release = _os_release(root)
    machine_id = _read_text(root, "etc/machine-id").strip()
    attributes = {
        "host.name": uname.nodename,
        "host.id": machine_id,
        "host.arch": _ARCH.get(uname.machine, uname.machine),
        "os.type": "linux",
        "os.name": release.get("NAME", ""),
        "os.version": release.get("VERSION_ID", ""),
        "os.description": f"{release.get('PRETTY_NAME', 'Linux')}, kernel {uname.release}",
    }
    return {name: value for name, value in attributes.items() if value}


def _find_host_root() -> Path:
    root = find_init_root(Path("/proc"))
    try:
        with open_root(root):
            return root
    except OSError:
        # It needs CAP_SYS_PTRACE, and a process namespace that is the host's.
        return Path("/")


def _read_text(root: Path, path: str) -> str:
    """Read a file whose links are those of ``root``; empty if it can't be read."""
    try:
        with open_root(root) as root_fd:
            fd = open_untrusted(root_fd, path)
        with os.fdopen(fd, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_FILE_CHARS)
    except OSError:
        return ""


def _os_release(root: Path) -> dict[str, str]:
    """Return the fields of os-release(5), from the first of its two paths that exists."""
    texts = (_read_text(root, path) for path in ("etc/os-release", "usr/lib/os-release"))
    lines = next((text for text in texts if text), "").split("\n")
    fields = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.strip().strip("\"'") for name, _, value in fields}
