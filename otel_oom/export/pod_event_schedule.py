"""When a pod gets its next Event: at most one a minute, and not too many of all pods."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

WINDOW_S: Final = 60.0
_MAX_PODS: Final = 1024
_MAX_UIDS: Final = 4096
"""Kills that are remembered: more than a batch has, which may be sent again."""
_BURST: Final = 10
_INTERVAL_S: Final = 1.0
"""The API server is shared: ten Events at once, then one a second."""


class PodState(Struct):
    """The next Event of a pod: its time, its kill, and what followed that one."""

    ready_at: float
    has_slot: bool = False
    uid: str | None = None
    more_count: int = 0
    last_unix_ns: int = 0


class PodEventSchedule:
    """The next Event of each pod, and the kills that need none of their own. Not thread-safe.

    All of it is in memory: after a restart, a pod may have its next Event at once.
    """

    def __init__(self) -> None:
        self._pods: dict[str, PodState] = {}
        self._done: dict[str, None] = {}
        self._next_slot = 0.0

    def is_done(self, uid: str) -> bool:
        """Return whether a kill has its Event, or is counted in that of another one."""
        return uid in self._done

    def plan(self, pod_uid: str, uid: str, unix_ns: int, now: float) -> float | None:
        """Return the seconds until a kill is due; ``None`` if that of another kill counts it."""
        pod = self._pods.get(pod_uid) or self._add(pod_uid, now)
        # The store may have dropped the kill that was planned.
        is_lost = now > pod.ready_at + WINDOW_S
        if pod.uid not in {None, uid} and not is_lost:
            pod.more_count += 1
            pod.last_unix_ns = max(pod.last_unix_ns, unix_ns)
            self.finish(uid)
            return None
        pod.uid = uid
        if pod.ready_at <= now and not pod.has_slot:
            pod.ready_at, pod.has_slot = self._book(now), True
        return max(0.0, pod.ready_at - now)

    def state(self, pod_uid: str) -> PodState:
        """Return the next Event of a pod, after :meth:`plan`."""
        return self._pods[pod_uid]

    def on_created(self, pod_uid: str, uid: str, now: float) -> None:
        """Note that the Event of a kill exists: the next one has to wait."""
        self._pods[pod_uid] = PodState(now + WINDOW_S)
        self.finish(uid)

    def on_failed(self, pod_uid: str) -> None:
        """Note that there will be no Event of the kill that was planned."""
        self._pods.pop(pod_uid, None)

    def finish(self, uid: str) -> None:
        """Note that a kill needs no Event any more."""
        self._done[uid] = None
        if len(self._done) > _MAX_UIDS:
            del self._done[next(iter(self._done))]

    def _add(self, pod_uid: str, now: float) -> PodState:
        if len(self._pods) >= _MAX_PODS:
            ended = [uid for uid, pod in self._pods.items() if now > pod.ready_at + WINDOW_S]
            for uid in ended or [next(iter(self._pods))]:
                del self._pods[uid]
        self._pods[pod_uid] = pod = PodState(now)
        return pod

    def _book(self, now: float) -> float:
        """Return the time of the next request to the API server."""
        self._next_slot = max(self._next_slot, now - (_BURST - 1) * _INTERVAL_S) + _INTERVAL_S
        return max(now, self._next_slot - _INTERVAL_S)
