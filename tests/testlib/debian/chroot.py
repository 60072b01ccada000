"""A copy of a Debian root to run commands in, which ends with them."""

from __future__ import annotations

from pathlib import Path

from tests.testlib.command import mount_namespace


def chroot(root: Path, work: Path, *mounts: str) -> tuple[str, ...]:
    """Return a command prefix: a copy of the root that ends with the command.

    It has this machine's /proc, /sys and /dev, in a mount namespace of its own.

    Args:
        root: of `debian_root`.
        work: an empty folder.
        mounts: more shell commands; the copy is ``work/root``.
    """
    upper = f"upperdir={work}/upper,workdir={work}/work"
    prefix = mount_namespace(
        f"mount -t tmpfs none {work}",
        f"mkdir {work}/upper {work}/work {work}/root",
        f"mount -t overlay -o lowerdir={root},{upper} none {work}/root",
        *(f"mount --rbind /{name} {work}/root/{name}" for name in ("proc", "sys", "dev")),
        *mounts,
    )
    system = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")
    return (*prefix, "chroot", f"{work}/root", "env", "--ignore-environment", *system)
