"""Guests that boot beside the other tests of a session, one after another.

A guest shares neither kernel log nor counters with this machine, so nothing else has to wait for
it: the collected tests name the guests that they need, and each waits for its own only.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
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


def needs_guest(boot: Boot, kernel: str) -> pytest.MarkDecorator:
    """Mark a test or a parameter with the guest whose results it needs."""
    return pytest.mark.guest(boot, kernel)


class Boots:
    """The guests of a session, by their keys."""

    def __init__(self) -> None:
        self._folder: Final = Path(tempfile.mkdtemp(prefix="otel-oom-guests-"))
        self._futures: Final[dict[Key, Future[Any]]] = {}
        self._queue: Final[list[Key]] = []
        self._reported: Final[set[Key]] = set()
        self._thread: Final = threading.Thread(target=self._run, name="guests", daemon=True)

    def start(self, keys: Iterable[Key]) -> None:
        """Boot these guests in the background, in this order."""
        self._futures.update((key, Future()) for key in keys)
        self._queue.extend(self._futures)
        self._thread.start()

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
            self._fulfil(key)

    def fail_once(self, key: Key, reason: str) -> NoReturn:
        """Fail the first test that needs a guest, and skip the others."""
        if key in self._reported:
            pytest.skip(f"{key[1]} failed, which another test reports")
        self._reported.add(key)
        pytest.fail(f"{key[1]} failed: {reason}", pytrace=False)

    def close(self) -> None:
        """Boot no further guest, wait for the running one, and delete all files."""
        self._queue.clear()
        if self._thread.ident is not None:
            self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        while self._queue:
            self._fulfil(self._queue.pop(0))

    def _fulfil(self, key: Key) -> None:
        boot, kernel = key
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        try:
            self._futures[key].set_result(boot(kernel, folder))
        except Exception as error:  # noqa: BLE001  the test that waits for it reports it
            self._futures[key].set_exception(error)
