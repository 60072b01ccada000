"""The machine's own kernel, tried like a guest's, with what can do no harm here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.testlib.repository import REPOSITORY
from tests.vmtest import programs
from tests.vmtest.guest import RESULTS, GuestError, Run
from tests.vmtest.kernels import Kernel

HERE: Final = "here"
"""What the machine's own kernel is called beside those of `kernels.toml`."""


def run(module: str, folder: Path, limit_s: float) -> Run:
    """Run ``python -m module FOLDER``, as :func:`tests.vmtest.guest.run` does in a guest.

    Raises:
        GuestError: it had no results.
        ProgramError: the programs of the scenarios cannot be compiled.
    """
    programs.build()
    began = time.monotonic()
    try:
        subprocess.run(
            [sys.executable, "-m", module, str(folder)],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise GuestError(f"{module} took more than {limit_s:g} s here") from error
    except subprocess.CalledProcessError as error:
        raise GuestError(f"{module} failed here:\n{error.stderr}") from error
    results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    system = os.uname()
    # Of a kernel that is not on the list it is not known whether its log adds up.
    own = Kernel(HERE, system.release, system.version, Path(), log_sums=True)
    return Run(own, results, 0.0, time.monotonic() - began, 0)
