"""Some thousand hosts by a few threads: each is advanced when its next step is due."""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

_THREADS: Final = 8
_CHECK_S: Final = 0.5


class Host(Protocol):
    """A host that sends when it is advanced."""

    def advance(self) -> float:
        """Send what is due; return the Unix time of the next step, infinite at the end."""

    def close(self) -> None:
        """Close its connections."""


def advance_hosts(hosts: Sequence[Host], begin_unix_s: float, deadline_unix_s: float) -> None:
    """Advance each host when it is due, until all are at their end, or the deadline."""
    due = [(begin_unix_s, index) for index in range(len(hosts))]
    changed = threading.Condition()
    running = 0

    def step(index: int) -> None:
        nonlocal running
        next_unix_s = math.inf
        try:
            next_unix_s = hosts[index].advance()
        finally:
            with changed:
                running -= 1
                if next_unix_s < math.inf:
                    heapq.heappush(due, (next_unix_s, index))
                changed.notify()

    futures = list[Future[None]]()
    with ThreadPoolExecutor(_THREADS) as pool:
        while True:
            with changed:
                now = time.time()
                if now > deadline_unix_s or not (due or running):
                    break
                if not due or due[0][0] > now:
                    changed.wait(min(due[0][0] - now, _CHECK_S) if due else _CHECK_S)
                    continue
                running += 1
                futures.append(pool.submit(step, heapq.heappop(due)[1]))
    for future in futures:
        future.result()
    for each in hosts:
        each.close()
