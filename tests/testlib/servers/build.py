"""Build the real servers from pinned sources, once.

    python -m tests.testlib.servers.build [NAME …]

prints the path of each binary, by default of all. They are kept in $OTEL_OOM_PARTS, else in the
user's cache folder, by a name with the version and a hash of all that they depend on.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.testlib.servers import recipes
from tests.testlib.servers.recipes import BuildError

__all__ = ["PARTS", "BuildError", "build_binary", "main"]

PARTS = (
    *("collector", "crictl", "crio", "helm", "jaeger", "node", "pinns", "prometheus", "promtool"),
    *("victorialogs", "vmalert"),
)
PEERS = ("log_collector", "node_problem_detector", "oomparser")
"""Parts of `make bench-peers` alone."""
_RECIPES = {
    **dict.fromkeys(("collector", "log_collector"), recipes.collector),
    **dict.fromkeys(("node", "oomparser"), recipes.local),
    "pinns": recipes.compiled,
}
"""Recipes of those that are not a command of a published module."""
LOCK_LIMIT = 3600.0
"""Seconds to wait for another builder of the same binary."""

_VERSIONS = Path(__file__).with_name("versions.toml")


def build_binary(name: str) -> Path:
    """Return the path of a binary, which is built first unless it is in the cache.

    The first build takes about a minute for each on two cores, that of the node ten, and needs Go
    and its module proxy; later calls take milliseconds.

    Args:
        name: one of PARTS or PEERS.

    Raises:
        KeyError: there is no such part.
        BuildError: it is not in the cache and cannot be built; says why.
    """
    pins = tomllib.loads(_VERSIONS.read_text(encoding="utf-8"))[name]
    sources = [path.read_text(encoding="utf-8") for path in _source_files(pins)]
    depends_on = json.dumps([pins, recipes.FLAGS, platform.machine(), *sources], sort_keys=True)
    digest = hashlib.sha256(depends_on.encode()).hexdigest()[:8]
    path = cache_folder() / f"{name}-{pins['version']}-{digest}"
    if not path.exists():
        recipes.require_go(path)
        with lock_file(path.with_name(f"{path.name}.lock")):
            if not path.exists():
                _build(name, pins, path)
    return path


def main() -> int:
    """Build the named parts; return 1 if a build failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.testlib.servers.build", description=__doc__
    )
    parser.add_argument("part", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}")
    for name in parser.parse_args().part or PARTS:
        if name not in {*PARTS, *PEERS}:
            parser.error(f"no part is named {name!r}; there are {', '.join((*PARTS, *PEERS))}")
        try:
            print(build_binary(name))
        except BuildError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def cache_folder() -> Path:
    """Return the folder of built and fetched files, outside of the repository."""
    if chosen := os.environ.get("OTEL_OOM_PARTS"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otel-oom/parts"


def _source_files(pins: recipes.Pins) -> list[Path]:
    """Return the files of a program that is written here."""
    return sorted((recipes.SOURCES / pins["folder"]).iterdir()) if "folder" in pins else []


def _build(name: str, pins: recipes.Pins, path: Path) -> None:
    started = time.monotonic()
    print(f"building {name} {pins['version']}, which takes minutes", file=sys.stderr)
    # Beside the target, so that the rename at the end is atomic.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{name}-") as folder:
        recipe = _RECIPES.get(name, recipes.published)
        recipe(pins, Path(folder)).rename(path)
    print(f"built {name} in {time.monotonic() - started:.0f} s", file=sys.stderr)


@contextmanager
def lock_file(lock: Path) -> Iterator[None]:
    """Hold a lock, which the kernel releases if this process dies.

    The file stays, since its removal would be a race. Its folder is made.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_LIMIT
    with lock.open("ab") as handle:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise BuildError(f"another process holds {lock} for {LOCK_LIMIT / 60:.0f} minutes")
            time.sleep(0.5)
        yield


if __name__ == "__main__":
    sys.exit(main())
