"""A guest's failure is one failure of its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testlib.servers.recipes import BuildError
from tests.vmtest.boots import Boot, Boots
from tests.vmtest.guest import GuestError
from tests.vmtest.host_kernel import HOST_KERNEL


def _end_early(_: str, folder: Path) -> None:
    raise GuestError(f"ended before it had booted, in {folder.name}")


def _lack_archive(_: str, __: Path) -> None:
    raise BuildError("the archive does not respond")


def _lack_compiler(_: str, __: Path) -> None:
    pytest.fail("required in CI: the compiler of wheels", pytrace=False)


@pytest.fixture
def boots() -> Iterator[Boots]:
    """Return guests that are closed at the end."""
    boots = Boots()
    yield boots
    boots.close()


@pytest.mark.parametrize(
    ("boot", "reason"),
    [
        (_end_early, "ended before it had booted"),
        (_lack_archive, "the archive does not respond"),
        (_lack_compiler, "the compiler of wheels"),
    ],
)
def test_the_first_test_fails_and_the_others_are_skipped(
    boots: Boots, boot: Boot, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason, in CI."""
    monkeypatch.setenv("CI", "true")
    key = boot, HOST_KERNEL
    boots.start([key])
    with pytest.raises(pytest.fail.Exception, match=reason):
        boots.result(key)
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="which another test reports"):
            boots.result(key)


def test_a_guest_that_cannot_be_fetched_is_skipped_elsewhere(
    boots: Boots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a laptop without a connection."""
    monkeypatch.delenv("CI", raising=False)
    key = _lack_archive, HOST_KERNEL
    boots.start([key])
    with pytest.raises(pytest.skip.Exception, match="does not respond"):
        boots.result(key)
