"""A machine with a kernel of the list, which is booted three times.

The first two boots panic, one by each setting of `vm.panic_on_oom`. Between the boots lasts the
firmware's store of error records (ACPI ERST), as on a server. The third boot reads these records,
then it plays all scenarios.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.vmtest.guest import GuestError, GuestRun, run_guest
from tests.vmtest.kernels import fetch_kernel
from tests.vmtest.panics import PANICS, RECORDS_FILE
from tests.vmtest.results_file import read_results

_PANIC_S: Final = 200.0
SCENARIOS_S: Final = 900.0
"""An idle machine takes 30 to 100 s for all scenarios of a kernel; other tests run beside."""

_STORE_BYTES: Final = 1 << 18

THIRD_BOOT: Final = "scenarios"
"""Its folder; those of the first two have the names of their panics."""


@dataclass(frozen=True)
class Panics:
    """The panics of two boots, and the third boot's records of them."""

    folder: Path
    """It has a folder for each boot."""
    known: dict[str, dict[str, Any]]
    """The facts that each boot wrote down before its panic."""
    records: dict[str, Any]
    ended: float
    """The end of the second boot, in Unix time."""


@dataclass(frozen=True)
class Machine:
    """The results of the three boots."""

    scenarios: GuestRun
    panics: Panics | str
    """The message of the error if a boot failed."""


def boot_machine(name: str, folder: Path) -> Machine:
    """Boot a machine with that kernel three times; for arm64 once, which has no such store."""
    kernel = fetch_kernel(name)
    if kernel.arm64:
        run = run_guest(kernel, "tests.vmtest.guest_main", folder, SCENARIOS_S)
        return Machine(run, "arm64 has no ACPI ERST")
    backend = f"memory-backend-file,id=erst,size={_STORE_BYTES},share=on"
    devices = ("-object", f"{backend},mem-path={folder}/erst", "-device", "acpi-erst,memdev=erst")
    known, failed = {}, ""
    try:
        for panic in PANICS:
            (folder / panic).mkdir()
            boot = run_guest(kernel, "tests.vmtest.panics", folder / panic, _PANIC_S, devices)
            known[panic] = boot.results
    except GuestError as error:
        failed = str(error)
    ended = time.time()
    third = folder / THIRD_BOOT
    third.mkdir()
    run = run_guest(kernel, "tests.vmtest.guest_main", third, SCENARIOS_S, devices)
    if failed:
        return Machine(run, failed)
    records = read_results(third, RECORDS_FILE)
    return Machine(run, Panics(folder, known, records, ended))
