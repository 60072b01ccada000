"""The names of what a guest tells in the folder that it shares with this machine."""

from __future__ import annotations

from typing import Final

AGENT_LOG: Final = "agent.log"
DEATHS: Final = "deaths"
"""A line for each: its pid, and the Unix times in ns around its death."""
REQUESTS: Final = "requests"
"""A file for each request that its backend has taken, named for when it was and its path."""
FAILED: Final = "failed"
