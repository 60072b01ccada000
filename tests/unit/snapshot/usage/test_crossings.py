"""Whose crossings are watched, of folders that look like cgroups of version 2."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import cast

from otel_oom.snapshot.usage.cgroup_tree import CgroupNode
from otel_oom.snapshot.usage.crossings import CrossingWatch


class AnyFileEpoll:
    """An epoll(7) that takes files of a disk, too."""

    def register(self, _descriptor: int, _mask: int) -> None:
        """Take a file."""


def count_open(folder: Path) -> dict[str, int]:
    """Return the number of open memory.events below each holder."""
    counts: dict[str, int] = {}
    for file in Path("/proc/self/fd").iterdir():
        path = Path(os.path.realpath(file))
        if path.is_relative_to(folder):
            holder = path.relative_to(folder).parts[0]
            counts[holder] = counts.get(holder, 0) + 1
    return counts


def make_nodes(folder: Path, holder: str, count: int, pages: int) -> list[CgroupNode]:
    nodes = []
    for number in range(count):
        path = folder / holder / str(number)
        path.mkdir(parents=True)
        (path / "memory.events").write_text("high 0\nmax 0\n")
        node = CgroupNode(str(path), None)
        node.descriptor = 0
        node.pages, node.own_limit_pages, node.limit_pages = pages, 100, 100
        nodes.append(node)
    return nodes


def test_a_holder_has_a_quarter_of_the_watches_when_others_want_them(tmp_path: Path) -> None:
    find_holder: Callable[[CgroupNode], str] = lambda node: node.folder.rpartition("/")[0]  # noqa: E731
    watch = CrossingWatch(
        cast("select.epoll", AnyFileEpoll()), lambda node: node.folder, find_holder, v1=False
    )
    loud = make_nodes(tmp_path, "loud", 70, 99)
    watch.begin_round(loud)
    assert count_open(tmp_path) == {"loud": 64}
    web = make_nodes(tmp_path, "web", 3, 60)
    watch.begin_round([*loud, *web])
    assert count_open(tmp_path) == {"loud": 61, "web": 3}
    quiet = make_nodes(tmp_path, "quiet", 70, 60)
    for _ in range(3):
        watch.begin_round([*loud, *web, *quiet])
    assert count_open(tmp_path) == {"loud": 45, "web": 3, "quiet": 16}
    watch.close()
    assert count_open(tmp_path) == {}
