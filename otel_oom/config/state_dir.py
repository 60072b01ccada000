"""Default state directories."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_AGENT: Final = Path("/var/lib/otel-oom")
_REPLAY: Final = "otel-oom-replay"


def read_state_dir(environ: Mapping[str, str]) -> Path:
    """Return the state directory of the agent."""
    return _service_dir(environ) or _AGENT


def read_replay_state_dir(environ: Mapping[str, str]) -> Path:
    """Return a state directory that no agent uses and that the user can write to."""
    if service_dir := _service_dir(environ):
        return service_dir / "replay"
    if os.geteuid() == 0:
        return _AGENT.with_name(_REPLAY)
    folder = environ.get("XDG_STATE_HOME", "")
    # Without a home too, the error names the folder that can't be made.
    state = folder if folder.startswith("/") else os.path.expanduser("~/.local/state")  # noqa: PTH111  Path's raises
    return Path(state) / _REPLAY


def _service_dir(environ: Mapping[str, str]) -> Path | None:
    # systemd separates several by colons; the first is the service's own.
    folder = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None
