"""A process that uses a store, reports each completed step, and is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from otel_oom.store import OutboxEntry, Store
from tests.testlib.samples.events import EXIT, KILL, SNAPSHOT, sample_kill

KILLS = 4
STEPS = KILLS + 4
MAX_TRIES = 5


def main(folder: Path, reported: Path) -> None:
    """Insert kills, enqueue two of them, acknowledge one message; report each step when done.

    An exit is written without a sync before two are enqueued, whose sync covers it.
    """
    out = os.open(reported, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def step(name: str, work: Callable[[], object]) -> None:
        for _ in range(MAX_TRIES):
            try:
                work()
            except sqlite3.Error:
                continue
            os.write(out, f"done {name}\n".encode())
            return

    with Store(folder) as store:
        os.write(out, b"done open\n")
        for number in range(KILLS):
            step(f"record {number}", partial(store.insert, sample_kill(number), SNAPSHOT))
        exit_ = replace(EXIT, kill_uid=sample_kill(KILLS - 1).uid)
        step("exit", partial(store.add_exit, KILL.boot_id, exit_))
        entries = [
            OutboxEntry(number + 1, sample_kill(number).uid, b"log", b"span") for number in range(2)
        ]
        step("queue", lambda: store.enqueue(entries))
        step("deliver", lambda: store.ack(store.next_batch("logs", 1, 1)))
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
