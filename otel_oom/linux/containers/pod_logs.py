"""The kubelet's links to the logs of its containers, whose names describe a container.

``/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`` is a link to
``/var/log/pods/NAMESPACE_POD_UID/CONTAINER/RESTARTS.log``. It stays until the kubelet removes the
dead container. Source: kubernetes, ``pkg/kubelet/kuberuntime/{helpers,legacy}.go``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux.untrusted_file import list_untrusted_dir, open_root, open_untrusted_dir

_LINKS: Final = Path("/var/log/containers")
_FOLDERS: Final = Path("/var/log/pods")
_MAX_LINKS: Final = 8192
_MAX_TARGET_CHARS: Final = 4096
_LINK: Final = re.compile(
    r"(?P<pod>[^_]+)_(?P<namespace>[^_]+)_(?P<container>[^_]+)-(?P<id>[0-9a-f]{64})\.log"
)
_TARGET: Final = re.compile(
    r".*/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_(?P<uid>[^_/]+)/(?P<container>[^_/]+)"
    r"/(?P<restarts>[0-9]{1,9})\.log"
)


class PodLog(Struct, frozen=True):
    """The names in the path of a container's log; ``restarts`` are as of that container."""

    pod: str
    namespace: str
    uid: str
    container: str
    restarts: str


def find_pod_log(roots: Iterable[Path], container_id: str) -> PodLog | None:
    """Find the log of a container by its id alone, in the first of ``roots`` that has it."""
    for root in roots:
        names = list_untrusted_dir(root, _LINKS, _MAX_LINKS)
        link = next((name for name in names if name.endswith(f"-{container_id}.log")), None)
        if link:
            return _read_link(root, link)
    return None


def read_pod_log(
    roots: Iterable[Path], pod: str, namespace: str, container: str, container_id: str
) -> PodLog | None:
    """Find the log of a container whose names are known."""
    link = f"{pod}_{namespace}_{container}-{container_id}.log"
    return next(filter(None, (_read_link(root, link) for root in roots)), None)


def find_only_container(roots: Iterable[Path], pod: str, namespace: str, uid: str) -> str | None:
    """Return the name of the only container that a pod ever had; ``None`` if there were more.

    Each has a folder from before its first start, which stays as long as the pod.
    """
    for root in roots:
        names = list_untrusted_dir(root, _FOLDERS / f"{namespace}_{pod}_{uid}", 2)
        if names:
            return names[0] if len(names) == 1 else None
    return None


def _read_link(root: Path, link: str) -> PodLog | None:
    with suppress(OSError, ValueError), open_root(root) as root_fd:
        fd = open_untrusted_dir(root_fd, _LINKS)
        try:
            target = os.readlink(link, dir_fd=fd)
        finally:
            os.close(fd)
        names = _LINK.fullmatch(link)
        path = _TARGET.fullmatch(target) if len(target) <= _MAX_TARGET_CHARS else None
        # Both are the kubelet's, and name one container.
        if names and path and all(names[key] == path[key] for key in _SHARED):
            return PodLog(
                path["pod"], path["namespace"], path["uid"], path["container"], path["restarts"]
            )
    return None


_SHARED: Final = ("pod", "namespace", "container")
