"""Guests that boot beside the other tests of a session.

A guest shares neither kernel log nor counters with this machine, so nothing else has to wait for
it: the collected tests name the guests that they need, and each waits for its own only.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from tests.testlib.require import require
from tests.testlib.servers.recipes import BuildError
from tests.vmtest import guest
from tests.vmtest.host_kernel import HOST_KERNEL

Boot = Callable[[str, Path], Any]
"""A function that boots a guest with a kernel, in an empty folder, and returns its results.

Raises GuestError or BuildError.
"""

Key = tuple[Boot, str]

_MAX_GUESTS: Final = 4
_GUEST_KB: Final = 4 << 20
"""The memory of a guest and of its emulator, with a reserve."""


def needs_guest(boot: Boot, kernel: str) -> pytest.MarkDecorator:
    """Mark a test or a parameter with the guest whose results it needs."""
    return pytest.mark.guest(boot, kernel)


class Boots:
    """The guests of a session, by their keys."""

    def __init__(self) -> None:
        self._folder: Final = Path(tempfile.mkdtemp(prefix="otel-oom-guests-"))
        self._futures: Final[dict[Key, Future[Any]]] = {}
        self._reported: Final[set[Key]] = set()
        self._pool: Final = ThreadPoolExecutor(_max_guests(), "guests")

    def start(self, keys: Iterable[Key]) -> None:
        """Boot these guests in the background, in this order."""
        for key in keys:
            self._futures[key] = self._pool.submit(self._boot, key)

    def result(self, key: Key) -> Any:  # noqa: ANN401  what its boot returns
        """Wait for a guest and return its results.

        A guest that failed fails the first test that needs it and skips the others.
        """
        if key[1] != HOST_KERNEL:
            missing = guest.missing()
            require(not missing, str(missing))
        try:
            return self._futures[key].result()
        except BuildError as error:
            require(condition=False, reason=str(error))
        except Exception as error:  # noqa: BLE001  whatever it was, it is one failure
            self.fail_once(key, str(error))

    def run_now(self, key: Key) -> None:
        """Run here and now what is no guest, once."""
        if key not in self._futures:
            self._futures[key] = Future()
            try:
                self._futures[key].set_result(self._boot(key))
            except Exception as error:  # noqa: BLE001  the test that needs it reports it
                self._futures[key].set_exception(error)

    def fail_once(self, key: Key, reason: str) -> NoReturn:
        """Fail the first test that needs a guest, and skip the others."""
        if key in self._reported:
            pytest.skip(f"{key[1]} failed, which another test reports")
        self._reported.add(key)
        pytest.fail(f"{key[1]} failed: {reason}", pytrace=False)

    def close(self) -> None:
        """Boot no further guest, wait for the running ones, and delete all files."""
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _boot(self, key: Key) -> Any:  # noqa: ANN401  what its boot returns
        boot, kernel = key
        return boot(kernel, Path(tempfile.mkdtemp(dir=self._folder)))


def _max_guests() -> int:
    """Return the number of guests at a time: each keeps a processor busy, and tests run beside."""
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    available = re.search(r"^MemAvailable: +(\d+) kB$", meminfo, re.MULTILINE)
    by_memory = int(available[1]) // _GUEST_KB if available else 1
    return max(1, min((os.cpu_count() or 1) // 2, _MAX_GUESTS, by_memory))
