"""Power cut: a machine is switched off during a storm, and another one reads its disk."""

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
from tests.fault_injection.trial import Trial, wait_until
from tests.vmtest import guest
from tests.vmtest.kernels import fetch_kernel

_KERNEL: Final = "6.1"
_DISK_BYTES: Final = 64 << 20
_STORED: Final = re.compile(r"OOM kill of '.*' \(pid (\d+)\)")
_ROUNDS: Final = 3
_STORM_S: Final = 400.0
_MIN_STORED: Final = 20
_MIN_SENT: Final = 20


def cut_power(trial: Trial, *, short: bool) -> None:
    """Cut a guest's power once it stores and sends, and deliver what it has stored.

    Only kills count that the agent had logged as stored, and that ended before the cut: records in
    the guest's kernel buffer are lost with its memory.
    """
    image = trial.folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    trial.other_kernel = True
    for number in range(1 if short else _ROUNDS):
        folder = trial.folder / f"guest-{number}"
        folder.mkdir()
        _storm(folder, image)
        trial.crashes += 1
        _add_results(trial, folder)
        with _mounted(image, trial.folder / f"disk-{number}") as disk:
            trial.state_dir = disk / "state"
            # The agent here must not add this machine's own kills.
            trial.deliver_rest(pin=False)


def _storm(folder: Path, image: Path) -> None:
    """Run the agent in a guest until it has stored and sent some kills, then cut the power."""
    drive = f"file={image},format=raw,if=virtio,cache=writethrough"
    wanted = fetch_kernel(_KERNEL)
    with guest.start_machine(
        wanted, "tests.fault_injection.guest_main", folder, ("-drive", drive)
    ) as running:

        def busy() -> bool:
            assert not (folder / FAILED).exists(), (folder / FAILED).read_text(encoding="utf-8")
            assert running.poll() is None, guest.describe_failure(wanted, folder, "ended by itself")
            sent = sum(1 for _ in (folder / REQUESTS).glob("[0-9]*"))
            return len(_stored_pids(folder)) >= _MIN_STORED and sent >= _MIN_SENT

        wait_until(
            busy, _STORM_S, lambda: guest.describe_failure(wanted, folder, "did not get so far")
        )


def _stored_pids(folder: Path) -> list[int]:
    log = folder / AGENT_LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return [int(pid) for pid in _STORED.findall(text)]


def _add_results(trial: Trial, folder: Path) -> None:
    """Add the guest's deaths, and the requests that its backend has accepted."""
    stored = set(_stored_pids(folder))
    for line in (folder / DEATHS).read_text(encoding="ascii").splitlines():
        pid, after_ns, before_ns = map(int, line.split())
        if pid in stored:
            trial.storm.add(Death(pid, after_ns, before_ns))
    for request in sorted((folder / REQUESTS).glob("[0-9]*")):
        signal = SIGNALS[request.name.rpartition("-")[2]]
        trial.backend.received(signal.request.FromString(request.read_bytes()))


@contextmanager
def _mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
