"""``otel-oom queue``: what waits to be sent, what was refused and why; send again, or let go."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from otel_oom.agent.control_client import ControlClient, open_control_client
from otel_oom.export.result import sanitize_reason
from otel_oom.model.units import KIB, NS_PER_S

_SHOWN: Final = 50


def show(state_dir: Path, *, as_json: bool) -> int:
    """Print what waits and what was refused."""
    with open_control_client(state_dir) as ask:
        found = ask({"method": "queue"})
        pages = _pages(ask, found["newest_dead_letter"])
        letters = [letter for page in pages for letter in page]
    if as_json:
        report = {"waiting": found["waiting"], "dead_letters": letters}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return 0
    for line in _lines(found["waiting"], letters, time.time_ns()):
        sys.stdout.write(line + "\n")
    return 0


def resend(state_dir: Path, uids: Sequence[str]) -> int:
    """Put dead letters back among what is to be sent: those of ``uids``, or all for none."""
    return _act(state_dir, "resend", uids, "to be sent again")


def drop(state_dir: Path, uids: Sequence[str]) -> int:
    """Delete dead letters: those of ``uids``, or all for none."""
    return _act(state_dir, "drop", uids, "dropped")


def _act(state_dir: Path, action: str, uids: Sequence[str], done: str) -> int:
    unknown = set(uids)
    count = 0
    with open_control_client(state_dir) as ask:
        # Not past the newest of now: what is refused again meanwhile would come round for ever.
        for page in _pages(ask, ask({"method": "queue"})["newest_dead_letter"]):
            chosen = [letter for letter in page if not uids or letter["uid"] in uids]
            unknown.difference_update(letter["uid"] for letter in chosen)
            if chosen:
                count += ask({"method": action, "ids": [letter["id"] for letter in chosen]})
    sys.stdout.write(f"{count} dead letters {done}\n")
    for uid in sorted(unknown):
        sys.stderr.write(f"otel-oom: No dead letter has the uid {uid}; see otel-oom queue.\n")
    return int(bool(unknown))


def _pages(ask: ControlClient, newest: int) -> Iterator[list[dict[str, Any]]]:
    """The dead letters up to ``newest``, oldest first, some at a time."""
    after = 0
    while after < newest:
        page = ask({"method": "dead_letters", "after": after})
        letters = [letter for letter in page if letter["id"] <= newest]
        if not letters:
            return
        yield letters
        after = letters[-1]["id"]


def _lines(
    waiting: Sequence[Mapping[str, Any]], letters: Sequence[Mapping[str, Any]], now_ns: int
) -> Iterator[str]:
    yield "Waiting to be sent"
    for backlog in waiting:
        line = f"  {backlog['signal']:8}{backlog['count']:8}"
        if backlog["count"]:
            age = timedelta(seconds=max(0, now_ns - backlog["oldest_unix_ns"]) // NS_PER_S)
            line += f"   {backlog['size'] / KIB:.1f} KiB, the oldest for {age}"
        yield line
    yield f"Refused for good: {len(letters)}"
    for letter in letters[:_SHOWN]:
        at = datetime.fromtimestamp(letter["rejected_unix_ns"] // NS_PER_S, UTC)
        yield f"  {letter['uid']}  {letter['signal']:6}  {at:%Y-%m-%dT%H:%M:%SZ}"
        doubt = "perhaps taken; " if letter["ambiguous"] else ""
        endpoint, reason = (sanitize_reason(letter[name]) for name in ("endpoint", "reason"))
        yield f"      {endpoint}: {doubt}{reason}"
    if len(letters) > _SHOWN:
        yield f"  … and {len(letters) - _SHOWN} more: --json has all"
    if letters:
        yield "otel-oom queue resend UID… sends them again, otel-oom queue drop UID… deletes them;"
        yield "--all instead of UIDs means all of them."
