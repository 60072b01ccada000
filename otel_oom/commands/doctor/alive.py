"""``otel-oom doctor --alive``: a probe for Kubernetes and for service managers.

It runs every half a minute beside the agent, within its memory limit: no import but those of every
command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from otel_oom.agent.control_server import ControlError, NoAgentError, send_request

TIMEOUT_S: Final = 8.0
"""More than the agent waits for its capture loop, less than the probes of `deploy/` wait."""


def print_liveness(state_dir: Path, *, as_json: bool) -> int:
    """Print whether the agent in ``state_dir`` is alive; return 0 if it is, else 1."""
    error = _find_liveness_error(state_dir)
    detail = error or "The agent captures, its store responds, and no delivery thread is stalled."
    report = json.dumps({"alive": error is None, "detail": detail}) if as_json else detail
    sys.stdout.write(f"{report}\n")
    return int(error is not None)


def _find_liveness_error(state_dir: Path) -> str | None:
    try:
        error = send_request(state_dir, {"method": "alive"}, TIMEOUT_S)
    except NoAgentError:
        return f"No agent runs in {state_dir}. Name its directory with --state-dir."
    except PermissionError:
        return f"Permission denied for {state_dir}. Run this as the agent's user."
    except TimeoutError:
        return f"The agent in {state_dir} has not responded for {TIMEOUT_S:.0f} s."
    except (ControlError, OSError, ValueError) as failure:
        return f"The agent in {state_dir} does not respond: {failure}"
    return f"The agent is not healthy: {error}." if error else None
