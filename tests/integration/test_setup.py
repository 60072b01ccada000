"""``scripts/setup`` on a host that lacks programs.

It runs as a copy in a folder of its own, with a PATH of links only. An ``apt-get`` there only notes
its arguments.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.testlib.command import NOBODY, CompletedCommand, run_command
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require

MISSING = {"make", "clang", "llvm"}


class Host:
    """A host that lacks a few programs."""

    def __init__(self, folder: Path) -> None:
        """Copy the script, and link the programs of this host."""
        self.folder = folder
        self.tools = folder / "tools"
        self.tools.mkdir()
        shutil.copy(REPOSITORY / "scripts/setup", self.tools)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.called = folder / "called"
        # Not what PATH calls python3, which may be a script that needs more than these.
        (self.bin / "python3").symlink_to(Path(sys.executable).resolve())
        for name in ("bash", "cat", "dirname", "env", "id", "setpriv", "sh", "uname"):
            program = shutil.which(name)
            assert program, name
            (self.bin / name).symlink_to(program)

    def add(self, name: str, script: str) -> None:
        """Add a program to the PATH."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def setup(self, *prefix: str) -> CompletedCommand:
        """Run the script for `make demo`, which must change nothing."""
        done = run_command([*prefix, self.tools / "setup", "demo"], env={"PATH": str(self.bin)})
        assert {path.name for path in self.folder.iterdir()} == {"tools", "bin"}
        assert done.code == 1
        assert done.out == ""
        return done


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host without clang, llvm, make and apt-get."""
    for folder in (Path("/usr/sbin"), Path("/sbin")):
        # The script looks there too, and on some distributions it is the same as /usr/bin.
        require(not (folder / "clang").exists(), "clang cannot be hidden here")
    return Host(tmp_path)


@pytest.mark.root
def test_a_user_gets_the_command_that_installs_all(host: Host) -> None:
    """It is one command, which the script does not run itself."""
    require(os.geteuid() == 0, "to become somebody else needs root")
    host.add("apt-get", f'echo "$@" >>{host.called}')
    message = host.setup(*NOBODY).error_message()
    listed = re.fullmatch(r"otel-oom: Missing: (.*)\. Run: sudo apt-get install (.*)", message)
    assert listed, message
    assert listed[1] == listed[2]
    assert set(listed[1].split()) >= MISSING


def test_another_distribution_gets_the_names_of_the_packages(host: Host) -> None:
    """As root or not; nothing is installed."""
    require(not Path("/usr/sbin/apt-get").exists(), "apt-get cannot be hidden here")
    message = host.setup().error_message()
    listed = re.match(r"otel-oom: Missing packages, by their names in Debian: ([^.]*)\.", message)
    assert listed, message
    assert set(listed[1].split()) >= MISSING
    assert "package manager" in message


def test_an_installed_library_is_found(host: Host) -> None:
    """Also in a long list of libraries, which is read to its end."""
    require(not Path("/usr/sbin/apt-get").exists(), "apt-get cannot be hidden here")
    host.add("ldconfig", 'echo "libbpf.so.1 => /lib"; exec cat /proc/kallsyms')
    assert "libbpf1" not in host.setup().error_message()
