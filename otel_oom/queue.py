"""``otel-oom queue``: what waits to be sent, what was refused and why; send again, or let go."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from otel_oom import control
from otel_oom.control import Answers, NoAgentError, Request
from otel_oom.export.answer import bounded
from otel_oom.store import Bounds, Store, StoreError

_PAGE: Final = 256
_SHOWN: Final = 50
_NS_PER_S: Final = 1_000_000_000
_KIB: Final = 1024
_UNBOUNDED: Final = Bounds(max_bytes=1 << 42)
"""The agent's bounds are in its own environment: who looks on must let nothing go by others."""

_COME_OR_GO_S: Final = 2.0
"""How long an agent may have the folder's lock and not answer: as it starts, and as it ends."""
_EVERY_S: Final = 0.1

_Ask = Callable[[Request], Any]


def answers(store: Store, look_again: Callable[[], None]) -> Answers:
    """What can be asked of ``store``; ``look_again`` is called when there is more to send."""

    def resend(request: Request) -> int:
        count = store.resend(request["ids"])
        look_again()
        return count

    return {
        "queue": lambda _: {
            "waiting": [asdict(backlog) for backlog in store.backlogs()],
            "newest_dead_letter": store.newest_dead_letter(),
        },
        "dead_letters": lambda request: [
            asdict(letter) for letter in store.dead_letters(request["after"], _PAGE)
        ],
        "resend": resend,
        "drop": lambda request: store.drop(request["ids"]),
    }


def show(state_dir: Path, *, as_json: bool) -> int:
    """Print what waits and what was refused."""
    with _asking(state_dir) as ask:
        found = ask({"do": "queue"})
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
    with _asking(state_dir) as ask:
        # Not past the newest of now: what is refused again meanwhile would come round for ever.
        for page in _pages(ask, ask({"do": "queue"})["newest_dead_letter"]):
            chosen = [letter for letter in page if not uids or letter["uid"] in uids]
            unknown.difference_update(letter["uid"] for letter in chosen)
            if chosen:
                count += ask({"do": action, "ids": [letter["id"] for letter in chosen]})
    sys.stdout.write(f"{count} dead letters {done}\n")
    for uid in sorted(unknown):
        sys.stderr.write(f"otel-oom: No dead letter has the uid {uid}; see otel-oom queue.\n")
    return int(bool(unknown))


@contextmanager
def _asking(state_dir: Path) -> Iterator[_Ask]:
    """Whom to ask: the agent that works there, else the store itself.

    Raises:
        StoreError: neither can be asked.
    """
    with ExitStack() as stack:
        yield _asked(state_dir, stack)


def _asked(state_dir: Path, stack: ExitStack) -> _Ask:
    deadline = time.monotonic() + _COME_OR_GO_S
    while not _agent_answers(state_dir):
        try:
            store = stack.enter_context(Store(state_dir, _UNBOUNDED))
        except StoreError:
            # Perhaps an agent has the folder, and is about to listen or to end.
            if time.monotonic() > deadline:
                raise
            time.sleep(_EVERY_S)
        else:
            known = answers(store, lambda: None)
            return lambda request: known[request["do"]](request)
    return partial(control.ask, state_dir)


def _agent_answers(state_dir: Path) -> bool:
    try:
        control.ask(state_dir, {"do": "queue"})
    except NoAgentError:
        if not (state_dir / "otel-oom.db").exists():
            raise StoreError(
                f"There is nothing in {state_dir}: no agent has kept its state there. "
                "Name its folder with --state-dir."
            ) from None
        return False
    except OSError as error:
        raise StoreError(f"The agent in {state_dir} can't be asked: {error}.") from error
    return True


def _pages(ask: _Ask, newest: int) -> Iterator[list[dict[str, Any]]]:
    """The dead letters up to ``newest``, oldest first, some at a time."""
    after = 0
    while after < newest:
        page = ask({"do": "dead_letters", "after": after})
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
            age = timedelta(seconds=max(0, now_ns - backlog["oldest_unix_ns"]) // _NS_PER_S)
            line += f"   {backlog['size'] / _KIB:.1f} KiB, the oldest for {age}"
        yield line
    yield f"Refused for good: {len(letters)}"
    for letter in letters[:_SHOWN]:
        at = datetime.fromtimestamp(letter["refused_unix_ns"] // _NS_PER_S, UTC)
        yield f"  {letter['uid']}  {letter['signal']:6}  {at:%Y-%m-%dT%H:%M:%SZ}"
        doubt = "perhaps taken; " if letter["doubtful"] else ""
        yield f"      {bounded(letter['endpoint'])}: {doubt}{bounded(letter['reason'])}"
    if len(letters) > _SHOWN:
        yield f"  … and {len(letters) - _SHOWN} more: --json has all"
    if letters:
        yield "otel-oom queue resend UID… sends them again, otel-oom queue drop UID… deletes them;"
        yield "--all instead of UIDs means all of them."
