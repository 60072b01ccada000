"""Processes of a /proc made of files, with the namespaces of init or others."""

from __future__ import annotations

import os
from pathlib import Path

_NAMESPACES = ("user", "mnt")


def make_process(  # noqa: PLR0913  the files of one process
    proc: Path,
    pid: int | str,
    parent: int,
    name: str,
    *words: str,
    cgroup: str = "/",
    uid: int = 0,
    started_s: int = 0,
    other: str | None = None,
) -> Path:
    """Make a process in the namespaces of init, except for the kind ``other``; return its folder.

    Init itself is made with the first one.
    """
    if not (proc / "1").exists() and pid != 1:
        for each in (1, "self"):
            make_process(proc, each, 0, "init")
    folder = proc / str(pid)
    (folder / "ns").mkdir(parents=True)
    ticks = started_s * os.sysconf("SC_CLK_TCK")
    stat = f"1 ({name}) S {parent} {'0 ' * 17}{ticks} 0"
    (folder / "stat").write_text(stat, encoding="ascii")
    (folder / "comm").write_text(f"{name}\n", encoding="ascii")
    (folder / "status").write_text(f"Name:\t{name}\nUid:\t{uid}\t0\t0\t0\n", encoding="ascii")
    (folder / "cmdline").write_text("\0".join(words), encoding="ascii")
    (folder / "cgroup").write_text(f"0::{cgroup}\n", encoding="ascii")
    (folder / "root").symlink_to("/")
    (folder / "ns/pid").symlink_to("/proc/self/ns/pid")
    for kind in _NAMESPACES:
        of_init = proc / "1/ns" / kind
        if of_init.exists() and kind != other:
            os.link(of_init, folder / "ns" / kind)
        else:
            (folder / "ns" / kind).touch()
    return folder


def conmon_command(bundle: Path, container_id: str) -> tuple[str, ...]:
    """Return the command line of a conmon."""
    return ("/usr/bin/conmon", "-c", container_id, "-b", str(bundle), "-n", "web", "-p", "/run/x")
