"""The state folder: ours alone, and of one agent at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class StoreError(Exception):
    """The store can't be used; the message says why and what to do next."""


def lock(folder: Path) -> int:
    """Make ``folder`` if it is missing, and take its lock; the descriptor that holds it.

    Raises:
        StoreError: another agent has it, or it can't be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(
            folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
    except OSError as error:
        raise StoreError(
            f"The state folder {folder} can't be used: {error.strerror}. "
            "Name another with --state-dir, or run as a user who may write there."
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise StoreError(
            f"Another otel-oom already works in {folder}. "
            "Stop it first, or give this one a --state-dir of its own."
        ) from None
    return held
