"""The agent in a container of podman or Docker, with rights that each test chooses."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.testlib.containers.docker import Docker
from tests.testlib.containers.image import build_host_image
from tests.testlib.containers.podman import Podman
from tests.testlib.repository import REPOSITORY

HOST_IMAGE: Final = "localhost/otel-oom-agent:test"
"""Nothing but links to /usr, which is the host's."""
CAPABILITIES: Final = ("BPF", "PERFMON", "SYSLOG", "SYS_PTRACE", "DAC_READ_SEARCH")
"""Those of the manifest."""
MOUNTS: Final = ("/sys/kernel/tracing", "/sys/fs/cgroup", "/etc/machine-id")
"""Paths of the host that are mounted read-only, where the host has them."""


@dataclass(frozen=True)
class AgentContainer:
    """The options of a container for the agent."""

    capabilities: Sequence[str] = CAPABILITIES
    mounts: Sequence[str] = MOUNTS
    options: Sequence[str] = ("--pid=host",)
    environ: Mapping[str, str] = field(default_factory=dict)
    user: str = "0"

    def without(self, capability: str) -> AgentContainer:
        """Return it without a capability."""
        rest = [each for each in self.capabilities if each != capability]
        return replace(self, capabilities=rest)

    def command(self, name: str, *words: str, state: Path | None = None) -> list[str]:
        """Return the words after the client's own that run `otel-oom` in such a container."""
        own = {str(REPOSITORY), sys.prefix, sys.base_prefix}
        paths = ["/usr", *sorted(path for path in own if not path.startswith("/usr"))]
        paths += [path for path in self.mounts if os.path.exists(path)]  # noqa: PTH110  of strings
        volumes = [f"--volume={path}:{path}:ro" for path in paths]
        if state:
            volumes.append(f"--volume={state}:{state}")
        return [
            *("run", f"--name={name}", "--network=host", "--cap-drop=ALL", f"--user={self.user}"),
            # The defaults raise limits above what an unprivileged host allows.
            *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
            *(f"--cap-add={capability}" for capability in self.capabilities),
            *(f"--env={key}={value}" for key, value in self.environ.items()),
            *volumes,
            *self.options,
            HOST_IMAGE,
            *(("sh", "-c", f'exec "$@" 2>{state}/agent.log', "sh") if state else ()),
            *(sys.executable, "-m", "otel_oom", *words),
        ]

    def start(self, runtime: Podman | Docker, name: str, state: Path, *words: str) -> None:
        """Start `otel-oom run`; the folder of the host gets its state and ``agent.log``."""
        container = replace(self, options=("--detach", *self.options))
        state_dir = ("--state-dir", str(state / "state"), "--no-pin", "--no-history")
        run_client(runtime, *container.command(name, "run", *state_dir, *words, state=state))

    def doctor(self, runtime: Podman | Docker, name: str) -> dict[str, dict[str, str]]:
        """Return the checks of `otel-oom doctor` in this container, by name."""
        container = replace(
            self,
            options=("--rm", *self.options),
            environ={**self.environ, "OTEL_SDK_DISABLED": "true"},
        )
        # It ends with 1 where no source can be used.
        words = (*container.command(name, "doctor", "--json"),)
        out = run_client(runtime, *words, check=False)
        assert out, run_client(runtime, *words)
        checks: list[dict[str, Any]] = json.loads(out)["checks"]
        return {check["name"]: check for check in checks}


def run_client(runtime: Podman | Docker, *words: str, check: bool = True) -> str:
    """Run the client of a runtime; return what it prints."""
    if isinstance(runtime, Docker):
        return runtime.docker(*words, check=check)
    return runtime.podman(*words, check=check)


def import_host_image(runtime: Podman | Docker) -> None:
    """Import the image of the containers."""
    image = build_host_image()
    if isinstance(runtime, Docker):
        runtime.docker("import", "-", HOST_IMAGE, stdin=image)
    else:
        runtime.podman("import", "-", HOST_IMAGE, input=image)
