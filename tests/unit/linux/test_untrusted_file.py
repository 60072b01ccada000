"""Paths that a tenant shapes, opened below its root by the kernel and by our own walk."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_oom.linux import untrusted_file
from otel_oom.linux.untrusted_file import (
    UntrustedFileError,
    list_untrusted_dir,
    open_root,
    open_untrusted,
)
from tests.testlib.opens import watch_opens
from tests.testlib.require import require

SECRET = b"secret of the host"


@pytest.fixture(params=["openat2", "walk"])
def root(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """A tenant's root directory beside a secret of the host."""
    if request.param == "walk":
        monkeypatch.setattr(untrusted_file, "_has_openat2", lambda: False)
    else:
        require(untrusted_file._has_openat2(), "this kernel has no openat2(2)")  # noqa: SLF001
    (tmp_path / "secret").write_bytes(SECRET)
    inside = tmp_path / "root"
    (inside / "etc").mkdir(parents=True)
    (inside / "etc/config").write_bytes(b"config of the tenant")
    with open_root(inside) as fd:
        yield fd


def read_untrusted(
    root: int, path: str, max_bytes: int | None = None, owner: int | None = None
) -> bytes:
    fd = open_untrusted(root, path, max_bytes=max_bytes, owner=owner)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "path", ["etc/config", "/etc/config", "//etc/./config", "../../etc/../etc/config", "a/b/config"]
)
def test_files_below_the_root_are_read(root: int, tmp_path: Path, path: str) -> None:
    (tmp_path / "root/a").symlink_to("/../../c")
    (tmp_path / "root/c").mkdir()
    (tmp_path / "root/c/b").symlink_to("../etc")
    assert read_untrusted(root, path) == b"config of the tenant"


@pytest.mark.parametrize(
    "target",
    [
        "../secret",
        "../../../../../..{outside}/secret",
        "{outside}/secret",
        "/proc/self/root{outside}/secret",
        "/proc/self/cwd",
        "link",
        "/etc",
        "/dev/zero",
        "a/" * 1000,
        "x" * 300,
        "\udcff",
    ],
)
def test_no_link_leads_out_of_the_root(root: int, tmp_path: Path, target: str) -> None:
    (tmp_path / "root/link").symlink_to(target.format(outside=tmp_path))
    fds = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("link", "link/secret", target.format(outside=tmp_path)):
        with pytest.raises(OSError, match=r"."):
            read_untrusted(root, path)
    assert len(list(Path("/proc/self/fd").iterdir())) == fds


@pytest.mark.parametrize("kind", ["magic link", "descriptor"])
def test_magic_links_are_no_way_out(root: int, tmp_path: Path, kind: str) -> None:
    """Of a container that has a procfs, as nearly all do: here the root is the host's."""
    fd = os.open(tmp_path / "secret", os.O_RDONLY)
    (tmp_path / "secret").unlink()
    path = f"/proc/self/fd/{fd}" if kind == "descriptor" else "/proc/self/exe"
    try:
        with open_root("/") as host, pytest.raises(OSError, match=r"."):
            read_untrusted(host, path, max_bytes=1)
    finally:
        os.close(fd)
    assert root


@pytest.mark.parametrize("kind", ["pipe", "socket", "directory", "device"])
def test_nothing_but_regular_files_is_opened(root: int, tmp_path: Path, kind: str) -> None:
    """Opening a device can rewind a tape, and opening a pipe wakes its writer."""
    path = tmp_path / "root/object"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        require(os.geteuid() == 0, "a device node needs root")
        os.mknod(path, 0o020666, os.makedev(1, 5))
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    (tmp_path / "root/link").symlink_to("/object")
    with watch_opens(path) as was_opened:
        for name in ("object", "link"):
            with pytest.raises(UntrustedFileError, match="not a regular file"):
                read_untrusted(root, name)
        assert not was_opened()


def test_files_of_the_kernel_are_not_opened(root: int) -> None:
    """A read of /proc/kmsg or of trace_pipe takes what is read from all others."""
    assert root
    with open_root("/") as host, pytest.raises(UntrustedFileError, match="of the kernel"):
        read_untrusted(host, "proc/kmsg")


def test_size_and_owner_are_bounds(root: int, tmp_path: Path) -> None:
    (tmp_path / "root/large").write_bytes(b"x" * 11)
    with pytest.raises(UntrustedFileError, match="larger than 10 bytes"):
        read_untrusted(root, "large", max_bytes=10)
    assert read_untrusted(root, "large", max_bytes=11, owner=os.geteuid()) == b"x" * 11
    with pytest.raises(UntrustedFileError, match="owned by uid"):
        read_untrusted(root, "large", owner=os.geteuid() + 1)


@pytest.mark.parametrize("path", ["link", "relative", "etc/config", "pipe", "absent", "link/x"])
def test_no_directory_out_of_the_root_is_listed(root: int, tmp_path: Path, path: str) -> None:
    """A user's storage is a path in its home, seen from a container of the agent."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "outside")
    (tmp_path / "root/relative").symlink_to("../outside")
    os.mkfifo(tmp_path / "root/pipe")
    assert list_untrusted_dir(tmp_path / "root", path, 10) == []
    assert list_untrusted_dir(f"/proc/self/fd/{root}", "/../etc", 10) == ["config"]
    assert list_untrusted_dir(tmp_path / "root", "/etc", 0) == []


@pytest.mark.parametrize("path", ["a\0b", "", "/", "..", "x" * 5000, "absent"])
def test_unusable_paths_are_errors(root: int, path: str) -> None:
    with pytest.raises(OSError, match=r"."):
        read_untrusted(root, path)


def test_a_lease_delays_nothing(root: int, tmp_path: Path) -> None:
    """Its holder has 45 s to give it up (/proc/sys/fs/lease-break-time)."""
    code = (
        "import fcntl, os, signal, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "signal.signal(signal.SIGIO, signal.SIG_IGN)\n"
        f"fcntl.fcntl(fd, {fcntl.F_SETLEASE}, {fcntl.F_WRLCK})\n"
        "print(flush=True)\n"
        "signal.pause()\n"
    )
    path = tmp_path / "root/etc/config"
    command = [sys.executable, "-I", "-S", "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == b"\n"
            with pytest.raises(BlockingIOError):
                read_untrusted(root, "etc/config")
        finally:
            holder.send_signal(signal.SIGKILL)
