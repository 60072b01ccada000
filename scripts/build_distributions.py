"""Build the source distribution, and from it a wheel for each machine: `make dist`.

Two builds of the same files have the same bytes, whatever their folders are called:
SOURCE_DATE_EPOCH is the time of the last commit, unless the environment has one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from scripts.vendor_sources import VendorError, vendor_sources

REPOSITORY: Final = Path(__file__).parents[1]
MACHINES: Final = ("x86_64", "aarch64")


def main() -> int:
    """Build into the folder that is named; print the path of each file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=REPOSITORY / "dist", metavar="FOLDER")
    parser.add_argument("--machine", action="append", choices=MACHINES)
    arguments = parser.parse_args()
    try:
        vendor_sources()
        for path in build_distributions(arguments.into.absolute(), arguments.machine or MACHINES):
            sys.stdout.write(f"{path}\n")
    except (VendorError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    return 0


def build_distributions(folder: Path, machines: tuple[str, ...]) -> list[Path]:
    """Build the source distribution and its wheels, and return their paths."""
    environ = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if "SOURCE_DATE_EPOCH" not in environ:
        environ["SOURCE_DATE_EPOCH"] = commit_time()
    python = (sys.executable, "-m")
    with tempfile.TemporaryDirectory() as name:
        built = Path(name)
        sdist = (*python, "hatchling", "build", "-t", "sdist", "-d", built)
        subprocess.run(sdist, cwd=REPOSITORY, env=environ, stdout=subprocess.DEVNULL, check=True)
        (source,) = built.glob("*.tar.gz")
        pip = (*python, "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", built)
        for machine in machines:
            environ["OTEL_OOM_WHEEL"] = machine
            subprocess.run((*pip, source), env=environ, stdout=subprocess.DEVNULL, check=True)
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(path, folder)) for path in sorted(built.iterdir())]


def commit_time() -> str:
    """Return the seconds since the epoch of the last commit."""
    git = ("git", "-c", "safe.directory=*", "log", "-1", "--format=%ct")
    return subprocess.check_output(git, cwd=REPOSITORY, text=True).strip()


if __name__ == "__main__":
    sys.exit(main())
