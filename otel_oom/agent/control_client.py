"""Whom a command asks about the state: the agent that works there, else the store itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from otel_oom.agent import control_server
from otel_oom.agent.control_handlers import store_handlers
from otel_oom.agent.control_server import NoAgentError, Request
from otel_oom.store import Store, StoreError, StoreLimits

Ask = Callable[[Request], Any]
"""Takes a request and returns its answer; raises ControlError where there is none."""

_UNBOUNDED: Final = StoreLimits(max_bytes=1 << 42)
"""The agent's bounds are in its own environment: who looks on must let nothing go by others."""

_COME_OR_GO_S: Final = 2.0
"""How long an agent may have the folder's lock and not answer: as it starts, and as it ends."""
_EVERY_S: Final = 0.1


@contextmanager
def open_control_client(state_dir: Path) -> Iterator[Ask]:
    """Yield a function that queries the agent of ``state_dir``, or the store if none runs.

    Raises:
        StoreError: neither can be asked.
    """
    with ExitStack() as stack:
        yield _asked(state_dir, stack)


def _asked(state_dir: Path, stack: ExitStack) -> Ask:
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
            known = store_handlers(store)
            return lambda request: known[request["do"]](request)
    return partial(control_server.send_request, state_dir)


def _agent_answers(state_dir: Path) -> bool:
    try:
        control_server.send_request(state_dir, {"do": "queue"})
    except NoAgentError:
        if not (state_dir / "otel-oom.db").exists():
            raise StoreError(
                f"There is nothing in {state_dir}: no agent has kept its state there. "
                "Name its folder with --state-dir."
            ) from None
        return False
    except PermissionError as error:
        raise StoreError(
            f"The state folder {state_dir} is not yours to read. "
            "Run this as the agent's user (root, as a rule: sudo), or name another folder with "
            "--state-dir."
        ) from error
    except OSError as error:
        raise StoreError(f"The agent in {state_dir} can't be asked: {error}.") from error
    return True
