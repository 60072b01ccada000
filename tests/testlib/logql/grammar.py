"""LogQL by its published grammar, which Grafana's editor has: Apache-2.0, unlike Loki."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.testlib.servers.build import cache_folder, lock_file

_FOLDER: Final = Path(__file__).parent
_FILES: Final = ("package.json", "package-lock.json", "check.mjs")


def install_grammar() -> Path:
    """Return the folder of the parser, which npm installs into the cache once.

    Raises:
        CalledProcessError: npm failed.
    """
    content = b"".join((_FOLDER / name).read_bytes() for name in _FILES)
    folder = cache_folder() / f"logql-{hashlib.sha256(content).hexdigest()[:8]}"
    with lock_file(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name in _FILES:
                shutil.copyfile(_FOLDER / name, folder / name)
            flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(["npm", "ci", *flags], cwd=folder, check=True, timeout=300)
            (folder / "installed").touch()
    return folder


def find_errors(folder: Path, queries: Sequence[str]) -> list[list[str]]:
    """Return of each query the parts that are no LogQL."""
    done = subprocess.run(
        ["node", folder / "check.mjs"],
        input=json.dumps(queries),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    errors: list[list[str]] = json.loads(done.stdout)
    return errors
