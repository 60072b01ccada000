"""The file by which a guest hands over its results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

RESULTS_FILE: Final = "results.json"


def write_results(folder: Path, results: Mapping[str, Any], name: str = RESULTS_FILE) -> None:
    """Write a file that is complete once it is there, to the disk: a panic may be next."""
    unfinished = folder / f"{name}.new"
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(json.dumps(results))  # json.dump() is ten times slower
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(folder / name)
    os.sync()


def read_results(folder: Path, name: str = RESULTS_FILE) -> dict[str, Any]:
    """Read the results of a guest."""
    results: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return results
