"""The machine's own kernel, with the scenarios that cannot harm it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.testlib.repository import REPOSITORY
from tests.vmtest import programs
from tests.vmtest.guest import GuestError, GuestRun
from tests.vmtest.kernels import Kernel
from tests.vmtest.results_file import read_results

HOST_KERNEL: Final = "here"
"""The name of the machine's own kernel beside those of `kernels.toml`."""

_MODULE: Final = "tests.vmtest.guest_main"
_LIMIT_S: Final = 900.0


def play_here(name: str, folder: Path) -> GuestRun:
    """Play the harmless scenarios on the machine's own kernel.

    Raises:
        GuestError: there were no results.
        ProgramError: the programs of the scenarios cannot be compiled.
    """
    programs.build_programs()
    began = time.monotonic()
    try:
        subprocess.run(
            [sys.executable, "-m", _MODULE, str(folder)],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise GuestError(f"{_MODULE} took more than {_LIMIT_S:g} s here") from error
    except subprocess.CalledProcessError as error:
        raise GuestError(f"{_MODULE} failed here:\n{error.stderr}") from error
    system = os.uname()
    # Other kernels than those of the list may have exact sizes in their log.
    own = Kernel(name, system.release, system.version, Path(), log_sums=True)
    return GuestRun(own, read_results(folder), 0.0, time.monotonic() - began, 0)
