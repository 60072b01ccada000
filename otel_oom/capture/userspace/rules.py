"""Join the messages in which systemd-oomd reports the kill of a rule (``OOMRules=``).

Source: ``ruleset_execute_action()`` of systemd's ``src/oom/oomd-manager.c`` (261, 262). One message
has the rule, its cgroup and its action. Only ``kill-all`` kills that cgroup. Other actions select a
cgroup below it, which is the last of the candidates in the next messages.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

_MAX_CHARS: Final = 9000
_KILL_ALL: Final = "kill-all"
_RULE: Final = re.compile(
    r"Rule '(?P<rule>.{1,256}?)' conditions met for cgroup (?P<path>/.{0,4096}?)"
    r"(?: for .{1,64}| \(lasting .{1,64}\))?, taking action (?P<action>kill-[a-z-]{1,32})"
)
_CANDIDATE: Final = re.compile(r"\s{0,16}Path: (?P<path>/.{0,4096})")
_NOT_KILLED: Final = ("Failed to kill", "Failed to select", "oomd dry-run:")


class RuleKill(Struct, frozen=True):
    """A kill by ``rule``: of the cgroup ``path``, ``None`` before it is selected.

    ``watched`` is the cgroup that met the rule's conditions.
    """

    rule: str
    watched: str
    path: str | None
    original: str


def parse_rule(message: str) -> RuleKill | None:
    """Parse the message that a rule's conditions are met; ``None`` for any other."""
    match = _RULE.fullmatch(message) if len(message) <= _MAX_CHARS else None
    if match is None:
        return None
    watched = match["path"]
    path = watched if match["action"] == _KILL_ALL else None
    return RuleKill(match["rule"], watched, path, message)


def parse_candidate(message: str) -> str | None:
    """Return the path of a cgroup that the daemon considers."""
    match = _CANDIDATE.fullmatch(message) if len(message) <= _MAX_CHARS else None
    return match["path"] if match else None


def reports_failure(message: str) -> bool:
    """Return true if the daemon could not act on a rule, or only simulates."""
    return message.startswith(_NOT_KILLED)
