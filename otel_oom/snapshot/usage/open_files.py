"""Decide whose open file a cgroup takes over once no more may be open.

The cgroups that are nearest to their limit have the files. But a holder keeps at most a share of
them while others have cgroups that want some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from otel_oom.snapshot.usage.cgroup_tree import CgroupNode

HOLDER_SHARE: Final = 4
"""A holder has at most this part of the open files, or watches, while others want some."""
WANTED_SHARE: Final = 0.5
"""Share of the limit above which a cgroup wants a file, or a watch, however near others are."""
_PROMOTION: Final = 1.1
"""A cgroup must be this much nearer to its limit than one whose open file it takes over."""


class OpenFiles:
    """The open files of a round by holder, each holder's farthest from its limit last."""

    def __init__(
        self,
        nodes: Iterable[CgroupNode],
        max_open: int,
        holder_of: Callable[[CgroupNode], str],
    ) -> None:
        self._holder_of = holder_of
        self._quota = max(1, max_open // HOLDER_SHARE)
        self._nodes: dict[str, list[CgroupNode]] = {}
        for node in sorted(nodes, key=lambda node: -node.share):
            self._nodes.setdefault(holder_of(node), []).append(node)
        self._find_ends()

    def _find_ends(self) -> None:
        """Find the holder of the farthest cgroup, and that among those above their share."""
        holders = [nodes for nodes in self._nodes.values() if nodes]
        greedy = [nodes for nodes in holders if len(nodes) > self._quota]
        self._farthest = min(holders, key=_lowest_share, default=[])
        self._greedy = min(greedy, key=_lowest_share, default=[])

    def wants_one(self, node: CgroupNode) -> bool:
        """Return whether a cgroup may take over a file."""
        return bool(self._choose(node))

    def take_over(self, node: CgroupNode) -> CgroupNode | None:
        """Return the cgroup whose file ``node`` takes over; ``None`` if it gets none."""
        nodes = self._choose(node)
        if not nodes:
            return None
        farthest = nodes.pop()
        self._nodes.setdefault(self._holder_of(node), []).insert(0, node)
        self._find_ends()
        return farthest

    def _choose(self, node: CgroupNode) -> list[CgroupNode]:
        """Return the files of the holder that gives one up; none if ``node`` gets none."""
        nodes = self._farthest
        own = self._nodes.get(self._holder_of(node), [])
        if len(own) >= self._quota:
            if nodes[-1].share >= WANTED_SHARE:
                nodes = own
        elif self._greedy and node.share >= WANTED_SHARE:
            return self._greedy
        return nodes if nodes and node.share > nodes[-1].share * _PROMOTION else []


def _lowest_share(nodes: list[CgroupNode]) -> float:
    return nodes[-1].share
