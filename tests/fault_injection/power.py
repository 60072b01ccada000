"""The power cut: a machine switched off in mid-storm, and its disk read by another."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_oom.export.signals import SIGNALS
from tests.fault_injection.guest_files import AGENT_LOG, DEATHS, FAILED, REQUESTS
from tests.fault_injection.storm import Death
from tests.fault_injection.trial import Trial, wait
from tests.vmtest import guest
from tests.vmtest.kernels import fetch_kernel

_KERNEL: Final = "6.1"
_DISK_BYTES: Final = 64 << 20
_STORED: Final = re.compile(r"OOM kill of '.*' \(pid (\d+)\)")
_ROUNDS: Final = 3
_MOST_S: Final = 400.0
_LEAST_STORED: Final = 20
_LEAST_SENT: Final = 20


def cut(trial: Trial, *, short: bool) -> None:
    """Cut a guest's power once it stores and sends, and have what it stored told elsewhere.

    The kills that count are those that the agent has told as stored, and that the guest saw die:
    what waited in its kernel's buffer is gone with its memory.
    """
    image = trial.folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    trial.elsewhere = True
    for number in range(1 if short else _ROUNDS):
        folder = trial.folder / f"guest-{number}"
        folder.mkdir()
        _storm(folder, image)
        trial.crashes += 1
        _count(trial, folder)
        with _mounted(image, trial.folder / f"disk-{number}") as disk:
            trial.state_dir = disk / "state"
            # This machine tells of its own kills nothing that was before it.
            trial.settle(pin=False)


def _storm(folder: Path, image: Path) -> None:
    """Run the agent in a guest until it has stored and sent some, then cut the power."""
    drive = f"file={image},format=raw,if=virtio,cache=writethrough"
    wanted = fetch_kernel(_KERNEL)
    with guest.start_machine(
        wanted, "tests.fault_injection.guest_main", folder, ("-drive", drive)
    ) as running:

        def busy() -> bool:
            assert not (folder / FAILED).exists(), (folder / FAILED).read_text(encoding="utf-8")
            assert running.poll() is None, guest.describe_failure(wanted, folder, "ended by itself")
            sent = sum(1 for _ in (folder / REQUESTS).glob("[0-9]*"))
            return len(_stored(folder)) >= _LEAST_STORED and sent >= _LEAST_SENT

        wait(busy, _MOST_S, lambda: guest.describe_failure(wanted, folder, "did not get so far"))


def _stored(folder: Path) -> list[int]:
    log = folder / AGENT_LOG
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return [int(pid) for pid in _STORED.findall(said)]


def _count(trial: Trial, folder: Path) -> None:
    """Take over what was killed, and what its backend has taken."""
    stored = set(_stored(folder))
    for line in (folder / DEATHS).read_text(encoding="ascii").splitlines():
        pid, after_ns, before_ns = map(int, line.split())
        if pid in stored:
            trial.storm.add(Death(pid, after_ns, before_ns))
    for request in sorted((folder / REQUESTS).glob("[0-9]*")):
        signal = SIGNALS[request.name.rpartition("-")[2]]
        trial.backend.taken(signal.request.FromString(request.read_bytes()))


@contextmanager
def _mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
