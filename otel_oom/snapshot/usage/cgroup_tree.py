"""The memory cgroups of a host and their limits, found by a walk in short turns.

The number of links of a cgroup's folder is that of its child cgroups plus two. So one stat(2), of
3 µs, says whether a folder must be listed again, which takes 14 µs.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

from msgspec import Struct

from otel_oom.linux.cgroup_holder import find_holder
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.text import decode_bytes
from otel_oom.snapshot.usage.cgroup_files import creation_time, read_limit

_EARLY_VISITS: Final = 2
"""Turns in which a new cgroup's limit is read: a runtime sets it after it makes the cgroup."""
_OWN_LINKS: Final = 2
"""Links of a folder beside those of its child folders."""
_PARENTS_A_TURN: Final = 64
_LEAVES_A_TURN: Final = 16
_MIN_TURNS: Final = 8
"""Cgroups of each queue that are visited whatever it costs: a machine can be so slow that a round
without any takes the whole budget."""
_LIMIT_EVERY: Final = 4
"""A parent is visited in nearly each round, but its limit is read in each fourth one only."""
_MAX_DEPTH: Final = 32
_FOLDER_SHARE: Final = 4
"""The child cgroups of one folder are at most this part of all."""


class CgroupNode(Struct, eq=False, gc=False):
    """A cgroup, its limit and its latest usage, in pages.

    ``limit_pages`` is the smallest limit at or above it, ``own_limit_pages`` its own; ``None``
    without one. ``column`` is its place in the table of samples, ``descriptor`` its open file. If
    ``is_fresh``, it was made after the walk came by its parent.

    The garbage collector does not visit it: a full collection, for which a kill can wait, would
    take 2.5 ms more with 12,000 of them.
    """

    folder: str
    parent: CgroupNode | None
    holder: str | None = None
    depth: int = 0
    children: dict[str, CgroupNode] | None = None
    column: int | None = None
    descriptor: int | None = None
    created_boottime_ns: int | None = None
    inode: int | None = None
    own_limit_pages: int | None = None
    limit_pages: int | None = None
    visits: int = 0
    pages: int = 0
    sampled_tick: int = -1
    in_rotation: bool = False
    is_fresh: bool = False
    is_gone: bool = False
    is_near: bool = False

    def __post_init__(self) -> None:
        if self.parent:
            self.depth = self.parent.depth + 1
            self.limit_pages = self.parent.limit_pages

    @property
    def share(self) -> float:
        """The latest usage as a share of the smallest limit at or above the cgroup."""
        return self.pages / self.limit_pages if self.limit_pages else 0.0


class CgroupTree:
    """All memory cgroups below a mount, at most ``max_nodes``."""

    def __init__(
        self,
        mount: CgroupMount,
        max_nodes: int,
        on_limited: Callable[[CgroupNode], None],
        on_gone: Callable[[CgroupNode], None],
    ) -> None:
        """Call ``on_limited`` whenever a cgroup with a limit at or above it was visited."""
        self._root = str(mount.mount)
        self._top = mount.path_of(mount.mount).rstrip("/")
        self._limit_file = "/memory.limit_in_bytes" if mount.v1 else "/memory.max"
        self._max_nodes = max_nodes
        self._on_limited, self._on_gone = on_limited, on_gone
        root = CgroupNode(self._root, None)
        self.nodes = {self._root: root}
        self._new = deque([(root, 1)])
        self._parents: deque[CgroupNode] = deque()
        self._leaves: deque[CgroupNode] = deque()
        self._is_walked = False

    @property
    def is_full(self) -> bool:
        """Return whether there are more cgroups than are recorded."""
        return len(self.nodes) >= self._max_nodes

    @property
    def is_complete(self) -> bool:
        """Return whether the first walk has come by all cgroups."""
        return self._is_walked

    def folder_of(self, path: str) -> str:
        """Return the folder of the cgroup at ``path``; empty when it is not below the mount."""
        if path != self._top and not path.startswith(f"{self._top}/"):
            return ""
        return self._root + path[len(self._top) :].rstrip("/")

    def path_of(self, node: CgroupNode) -> str:
        """Return the path of a cgroup, as the kernel shows it."""
        path = self._top + node.folder[len(self._root) :] or "/"
        return decode_bytes(os.fsencode(path))

    def holder_of(self, node: CgroupNode) -> str:
        """Return the holder of a cgroup, which is searched for once."""
        if node.holder is None:
            node.holder = sys.intern(find_holder(self.path_of(node)))
        return node.holder

    def visit(self, has_time: Callable[[], bool]) -> None:
        """Visit some known cgroups in turn, then new ones, while there is time.

        The first walk takes long where there are many: what is made meanwhile goes first.
        """
        self._take_turns(self._parents, _PARENTS_A_TURN, has_time)
        self._take_turns(self._leaves, _LEAVES_A_TURN, has_time)
        again: list[tuple[CgroupNode, int]] = []
        turns = count()
        while self._new and (next(turns) < _MIN_TURNS or has_time()):
            node, visits = self._new.popleft()
            if not self._visit_cgroup(node):
                continue
            if visits > 1:
                again.append((node, visits - 1))
            else:
                self._wait_for_turn(node)
        self._is_walked = self._is_walked or not self._new
        self._new.extend(again)

    def _take_turns(
        self, queue: deque[CgroupNode], limit: int, has_time: Callable[[], bool]
    ) -> None:
        for turn in range(min(limit, len(queue))):
            if turn >= _MIN_TURNS and not has_time():
                return
            node = queue.popleft()
            if self._visit_cgroup(node):
                self._wait_for_turn(node)

    def remove(self, node: CgroupNode) -> None:
        """Remove a cgroup that is gone, and all below it."""
        waiting = [node]
        if node.parent and node.parent.children is not None:
            node.parent.children.pop(node.folder.rpartition("/")[2], None)
        while waiting:
            gone = waiting.pop()
            waiting += (gone.children or {}).values()
            # Nothing else ends the cycle of a parent and its children.
            gone.children = None
            gone.is_gone = True
            if self.nodes.get(gone.folder) is gone:
                del self.nodes[gone.folder]
            self._on_gone(gone)

    def close(self) -> None:
        """Release the cgroups."""
        for node in self.nodes.values():
            node.children = None

    def _wait_for_turn(self, node: CgroupNode) -> None:
        (self._parents if node.children else self._leaves).append(node)

    def _visit_cgroup(self, node: CgroupNode) -> bool:
        """Read the children and the limit of a cgroup; return false if it is gone."""
        if node.is_gone:
            return False
        try:
            status = os.stat(node.folder)  # noqa: PTH116  a Path takes longer than the kernel
        except OSError:
            if node.parent:
                self.remove(node)
            return False
        if node.inode not in {None, status.st_ino} and node.parent:
            # Made again at the same path, as by a restart: the parent's next turn adds it.
            self.remove(node)
            return False
        node.inode = status.st_ino
        if node.created_boottime_ns is None and node.parent:
            node.created_boottime_ns = creation_time(status)
        node.visits += 1
        is_changed = status.st_nlink - _OWN_LINKS != len(node.children or ())
        if is_changed and not self._is_folder_full(node):
            self._list_children(node)
        if node.children and node.visits % _LIMIT_EVERY != 1:
            return True
        node.own_limit_pages = read_limit(node.folder + self._limit_file, node.own_limit_pages)
        self._apply_limit(node)
        return True

    def _is_folder_full(self, node: CgroupNode) -> bool:
        return self.is_full or len(node.children or ()) >= self._max_nodes // _FOLDER_SHARE

    def _list_children(self, node: CgroupNode) -> None:
        if node.depth >= _MAX_DEPTH:
            return
        try:
            with os.scandir(node.folder) as entries:
                names = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        except OSError:
            # Too many open files, for example: the children stay, and each has its own turn.
            return
        children = node.children or {}
        for name in children.keys() - names:
            self.remove(children[name])
        node.children = children
        for name in names - children.keys():
            if self._is_folder_full(node):
                break
            child = CgroupNode(f"{node.folder}/{name}", node)
            children[name] = self.nodes[child.folder] = child
            child.is_fresh = node.is_fresh or node.visits > 1 or self._is_walked
            if child.is_fresh:
                self._new.appendleft((child, _EARLY_VISITS))
            else:
                self._new.append((child, 1))
        node.children = children or None

    def _apply_limit(self, changed: CgroupNode) -> None:
        """Apply the limits at and above a cgroup to it and, if they changed, to all below it."""
        waiting = [changed]
        while waiting:
            node = waiting.pop()
            above = node.parent.limit_pages if node.parent else None
            limits = [pages for pages in (node.own_limit_pages, above) if pages is not None]
            before, node.limit_pages = node.limit_pages, min(limits, default=None)
            if node.limit_pages is not None:
                self._on_limited(node)
            if node.limit_pages != before:
                waiting += (node.children or {}).values()
