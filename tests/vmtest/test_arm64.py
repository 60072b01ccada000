"""The wheel for arm64 on its kernels: its own library and object, registers, and size of pages.

Each other test of a kernel's kills runs on these kernels too.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
from typing import Final

import pytest

from tests.testlib.distribution import built_wheel
from tests.vmtest.arm64 import SITE
from tests.vmtest.boots import needs_guest
from tests.vmtest.guest import GuestRun
from tests.vmtest.kernels import KERNELS, is_arm64
from tests.vmtest.machine import boot_machine
from tests.vmtest.scenario_result import ScenarioResult

_OBJECT: Final = "otel_oom/capture/bpf/oom.bpf.o"
_EM_AARCH64: Final = 183
"""elf(5): e_machine."""

arm64_kernels = pytest.mark.parametrize(
    "guest_run",
    [
        pytest.param(name, marks=needs_guest(boot_machine, name))
        for name in KERNELS
        if is_arm64(name)
    ],
    indirect=True,
)


def page_bytes(name: str) -> int:
    """Return the size that the name of a kernel promises."""
    return 16384 if name.endswith("16k") else 4096


@arm64_kernels
def test_the_wheels_own_library_and_object_are_loaded(guest_run: GuestRun) -> None:
    """Not the library of the guest's system, which is the fallback; both are those of the wheel."""
    library = guest_run.results["libbpf"]
    assert library.startswith(f"{SITE}/otel_oom/")
    with zipfile.ZipFile(built_wheel("aarch64")) as wheel:
        content = wheel.read(library.removeprefix(f"{SITE}/"))
        assert struct.unpack_from("<H", content, 18) == (_EM_AARCH64,)
        object_digest = hashlib.sha256(wheel.read(_OBJECT)).hexdigest()
    assert guest_run.results["object"] == object_digest


@arm64_kernels
@pytest.mark.parametrize("scenario", ["memcg"])
def test_sizes_are_in_the_kernels_own_pages(guest_run: GuestRun, result: ScenarioResult) -> None:
    """The kernel's task table counts pages; its lines of the kill and of the limit have kB."""
    (kill,) = result.events["libbpf"].kills
    assert result.page_bytes == page_bytes(guest_run.kernel.name)
    assert kill.memory is not None
    assert kill.memory.resident % result.page_bytes == 0
    assert kill.memory.resident <= 16 << 20
    assert kill.decision is not None
    assert kill.decision.memcg_usage is not None
    assert kill.decision.memcg_usage.limit == 16 << 20


@arm64_kernels
def test_the_decision_is_read_by_the_best_hook(guest_run: GuestRun) -> None:
    """Before 6.4, arm64 has no trampoline for fentry: kprobes read the registers.

    What they read is compared with the kernel's report by `test_decisions`.
    """
    before = guest_run.kernel.release.startswith("6.1.")
    hook = "kprobe" if before else "fentry"
    assert guest_run.results["decision_source"] == f"{hook}/oom_kill_process"
