"""Folders of clusters, and what remains of those whose supervisor was killed."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import cgroups, plan
from tests.cluster.plan import ClusterFolder
from tests.testlib.servers.build import lock_file


@contextmanager
def open_folder() -> Iterator[tuple[ClusterFolder, int]]:
    """Make the folder of a new cluster and lock it; yield it and the descriptor of the lock.

    The supervisor inherits the descriptor. What earlier clusters have left is removed before,
    and the folder afterwards.
    """
    parent = Path(tempfile.gettempdir())
    with lock_file(parent / f"{plan.NAME_PREFIX}lock"):
        _remove_all(parent)
        folder = ClusterFolder(Path(tempfile.mkdtemp(prefix=plan.NAME_PREFIX)))
        lock = folder.lock.open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield folder, lock.fileno()
    finally:
        lock.close()
        shutil.rmtree(folder.path, ignore_errors=True)


def _remove_all(parent: Path) -> None:
    folders = {path.name for path in parent.glob(f"{plan.NAME_PREFIX}*") if path.is_dir()}
    for name in folders | cgroups.list_leftovers(plan.NAME_PREFIX):
        folder = ClusterFolder(parent / name)
        if not _is_locked(folder):
            cgroups.remove_cgroups(name)
            shutil.rmtree(folder.path, ignore_errors=True)


def _is_locked(folder: ClusterFolder) -> bool:
    if not folder.lock.exists():
        return False
    with folder.lock.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
