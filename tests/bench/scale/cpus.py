"""Costs by the number of possible CPUs, for each of which the kernel side has memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct, convert

from tests.bench.scale.growth import Cost, Dimension
from tests.vmtest.guest import GuestError, run_guest
from tests.vmtest.kernels import fetch_kernel

SIZES: Final = (2, 8, 64)

KERNEL: Final = "6.1"
"""A later one ignores further CPUs of a machine that it takes for a real one."""
_ONLINE: Final = 2
_LIMIT_S: Final = 600.0


class CpuResult(Struct, frozen=True):
    """The costs in one guest, with its number of possible CPUs."""

    possible: int
    cpu_ms: float
    start_s: float
    rss_mb: float
    maps_mb: float


def measure_cpus(sizes: Iterable[int] = SIZES) -> Dimension:
    """Measure an agent in emulated guests, which have two CPUs and slots for more.

    Raises:
        GuestError: a guest has no results, or another number of CPUs.
    """
    results = {}
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="cpus-") as folder:
            devices = ("-smp", f"cpus={_ONLINE},maxcpus={size}")
            module = "tests.bench.scale.guest_main"
            kernel = fetch_kernel(KERNEL)
            found = run_guest(kernel, module, Path(folder), _LIMIT_S, devices).results
        if "failed" in found:
            raise GuestError(found["failed"])
        results[size] = convert(found, CpuResult)
        if results[size].possible != size:
            raise GuestError(f"{results[size].possible} possible CPUs instead of {size}")
    return Dimension(
        "possible CPUs",
        (
            Cost(
                "a kill: CPU of the agent, emulated",
                "ms",
                {size: result.cpu_ms for size, result in results.items()},
            ),
            Cost(
                "start: CPU, emulated",
                "s",
                {size: result.start_s for size, result in results.items()},
            ),
            Cost("RSS", "MB", {size: result.rss_mb for size, result in results.items()}),
            Cost(
                "BPF maps: memory of the kernel",
                "MB",
                {size: result.maps_mb for size, result in results.items()},
            ),
        ),
    )
