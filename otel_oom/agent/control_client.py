"""Query the running agent, or open the store directly if none runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from otel_oom.agent.control_handlers import store_handlers
from otel_oom.agent.control_server import NoAgentError, Request, send_request
from otel_oom.store import Store, StoreError, StoreLimits

ControlClient = Callable[[Request], Any]
"""Sends a request and returns the result. Raises ControlError if the request fails."""

_NO_LIMITS: Final = StoreLimits(max_bytes=1 << 42)
"""Only the agent knows its own size limit, and a reader must not prune."""

_LOCKED_S: Final = 2.0
"""How long an agent may lock the directory without responding: as it starts and as it ends."""
_RETRY_S: Final = 0.1


@contextmanager
def open_control_client(state_dir: Path) -> Iterator[ControlClient]:
    """Yield a client of the agent in ``state_dir``, or of the store. Raises StoreError."""
    with ExitStack() as stack:
        yield _open(state_dir, stack)


def _open(state_dir: Path, stack: ExitStack) -> ControlClient:
    deadline = time.monotonic() + _LOCKED_S
    while not _agent_responds(state_dir):
        try:
            store = stack.enter_context(Store(state_dir, _NO_LIMITS))
        except StoreError:
            # An agent may hold the directory, and be about to listen or to end.
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            handlers = store_handlers(store)
            return lambda request: handlers[request["method"]](request)
    return partial(send_request, state_dir)


def _agent_responds(state_dir: Path) -> bool:
    try:
        send_request(state_dir, {"method": "queue"})
    except NoAgentError:
        if not (state_dir / "otel-oom.db").exists():
            raise StoreError(
                f"No state found in {state_dir}: no agent has run with it. "
                "Name its directory with --state-dir."
            ) from None
        return False
    except PermissionError as error:
        raise StoreError(
            f"Permission denied for the state directory {state_dir}. Run this as the agent's user "
            "(usually root: sudo), or name another directory with --state-dir."
        ) from error
    except OSError as error:
        raise StoreError(f"Cannot query the agent in {state_dir}: {error}.") from error
    return True
