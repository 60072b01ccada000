"""Names of the files that a guest writes to the folder shared with this machine."""

from __future__ import annotations

from typing import Final

AGENT_LOG: Final = "agent.log"
DEATHS: Final = "deaths"
"""A line for each death: its pid, and the Unix times in ns before and after it."""
REQUESTS: Final = "requests"
"""A file for each request that its backend has accepted, named by its time and path."""
FAILED: Final = "failed"
