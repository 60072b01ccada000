"""Guests that boot beside the other tests of a session; a plug-in of pytest.

A guest shares neither kernel log nor counters with this machine, so nothing else has to wait for
it: the collected tests name the guests that they need, and each waits for its own only.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Container, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from tests.testlib.servers.recipes import BuildError
from tests.vmtest import guest
from tests.vmtest.host_kernel import HOST_KERNEL

Boot = Callable[[str, Path], Any]
"""A function that boots a guest with a kernel, in an empty folder, and returns its results.

Raises GuestError or BuildError.
"""

Key = tuple[Boot, str]

_BOOTS: Final = pytest.StashKey["Boots"]()

_MAX_GUESTS: Final = 4
_GUEST_KB: Final = 4 << 20
"""The memory of a guest and of its emulator, with a reserve."""


def needs_guest(boot: Boot, kernel: str, *, waits: bool = False) -> pytest.MarkDecorator:
    """Mark a test or a parameter with the guest whose results it needs.

    A guest that mostly ``waits`` runs beside the others, which keep the processors busy.
    """
    return pytest.mark.guest(boot, kernel, waits=waits)


class Boots:
    """The guests of a session, by their keys."""

    def __init__(self) -> None:
        self._folder: Final = Path(tempfile.mkdtemp(prefix="otel-oom-guests-"))
        self._futures: Final[dict[Key, Future[Any]]] = {}
        self._reported: Final[set[Key]] = set()
        self._pool: Final = ThreadPoolExecutor(_max_guests(), "guests")
        self._waiting_pool: Final = ThreadPoolExecutor(1, "waiting-guest")

    def start(self, keys: Iterable[Key], waiting: Container[Key] = ()) -> None:
        """Boot these guests in the background, in this order; those ``waiting`` beside the rest."""
        for key in keys:
            pool = self._waiting_pool if key in waiting else self._pool
            self._futures[key] = pool.submit(self._boot, key)

    def result(self, key: Key) -> Any:  # noqa: ANN401  what its boot returns
        """Wait for a guest and return its results.

        A guest that failed fails the first test that needs it and skips the others. So does one
        whose prerequisites are missing in CI; elsewhere all are skipped.
        """
        if key[1] != HOST_KERNEL and (missing := guest.missing()):
            self._require_once(key, missing)
        try:
            return self._futures[key].result()
        except (BuildError, pytest.skip.Exception) as error:
            self._require_once(key, str(error))
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  it is one failure
            self.fail_once(key, str(error))

    def results(self, key: Key) -> dict[str, Any]:
        """Wait for a guest and return what its module wrote, whose failure is that of the guest."""
        written: dict[str, Any] = self.result(key).results
        if "failed" in written:
            self.fail_once(key, "\n".join((written["failed"], written.get("journal", ""))))
        return written

    def _require_once(self, key: Key, reason: str) -> NoReturn:
        if os.environ.get("CI") == "true":
            self.fail_once(key, f"required in CI: {reason}")
        pytest.skip(reason)

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
        for pool in (self._pool, self._waiting_pool):
            pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _boot(self, key: Key) -> Any:  # noqa: ANN401  what its boot returns
        boot, kernel = key
        return boot(kernel, Path(tempfile.mkdtemp(dir=self._folder)))


def _max_guests() -> int:
    """Return the number of guests at a time.

    Each keeps a processor busy. The tests beside mostly wait, and go before the guests.
    """
    meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
    available = re.search(r"^MemAvailable: +(\d+) kB$", meminfo, re.MULTILINE)
    by_memory = int(available[1]) // _GUEST_KB if available else 1
    return max(1, min(os.cpu_count() or 1, _MAX_GUESTS, by_memory))


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Put the tests that wait for a guest behind all others, which run while it boots.

    Guests boot in the order of their tests. Those of tests/package take longest, and come first.
    """
    yield
    items.sort(key=lambda item: item.get_closest_marker("guest") is not None)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Start to boot the guests of the remaining tests, once each."""
    if session.config.option.collectonly:
        return
    marks = [mark for item in session.items for mark in item.iter_markers("guest")]
    if keys := dict.fromkeys((mark.args[0], mark.args[1]) for mark in marks):
        waiting = {(mark.args[0], mark.args[1]) for mark in marks if mark.kwargs["waits"]}
        _boots_of(session.config).start(keys, waiting)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the guests, also after an interruption."""
    if boots := config.stash.get(_BOOTS, None):
        boots.close()


@pytest.fixture
def boots(request: pytest.FixtureRequest) -> Boots:
    """Return the guests of this session."""
    return _boots_of(request.config)


def _boots_of(config: pytest.Config) -> Boots:
    if _BOOTS not in config.stash:
        config.stash[_BOOTS] = Boots()
    return config.stash[_BOOTS]
