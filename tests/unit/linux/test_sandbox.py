"""A process that gives up its rights has none left, whoever it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.testlib.command import NOBODY, run_command
from tests.testlib.require import require

TRIES = """
import errno, os, signal, socket, sys, time
sys.path.append(sys.argv[1])
from otel_oom.linux.sandbox import deny_system_calls, drop_privileges, limit_resources

NAMES = ("CapPrm", "CapEff", "CapAmb", "NoNewPrivs")
file = os.open(sys.argv[2], os.O_RDONLY)
open_status = lambda: open("/proc/self/status").read()
limit_resources(64 << 20, 2, 64)
drop_privileges()
status = dict(line.split(":", 1) for line in open_status().splitlines())
lines = [f"{name} {status[name].split()[0]}" for name in NAMES]
lines.append(f"uid {os.getuid()} {os.getgid()} {len(os.getgroups())}")
lines.append(f"score {open('/proc/self/oom_score_adj').read().strip()}")
try:
    os.fork()
    lines.append("forked")
except OSError as error:
    lines.append(f"fork {error.errno == errno.EAGAIN or os.getuid() == 0}")
lines.append(f"filter {deny_system_calls()}")
tries = {
    "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "open by descriptor": lambda: os.open("x", os.O_RDONLY, dir_fd=file),
    "socket": lambda: socket.socket(),
    "kill": lambda: os.kill(os.getppid(), 0),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork(),
    "stat": lambda: os.stat("/etc/passwd"),
    "mkdir": lambda: os.mkdir("/tmp/made-by-the-sandbox"),
    "prlimit": lambda: __import__("resource").setrlimit(0, (1, 1)),
}
for name, call in tries.items():
    try:
        call()
        lines.append(f"{name} allowed")
    except OSError as error:
        lines.append(f"{name} {error.errno == errno.EPERM}")
    except ValueError:
        lines.append(f"{name} True")
lines.append(f"pread {os.pread(file, 4, 0) == b'root'}")
memory = bytearray(8 << 20)
try:
    bytearray(1 << 30)
    lines.append("1 GiB")
except MemoryError:
    lines.append("memory True")
os.write(1, "\\n".join(lines).encode())
os._exit(0)
"""
REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("prefix", [(), NOBODY], ids=["root", "user with a capability"])
def test_nothing_is_left_but_reading_what_is_open(prefix: tuple[str, ...]) -> None:
    require(os.geteuid() == 0, "only root can give up root's rights")
    require(os.uname().machine in {"x86_64", "aarch64"}, "no filter for this machine")
    python = [sys.executable, "-I", "-B", "-c", TRIES, str(REPOSITORY), "/etc/passwd"]
    done = run_command([*prefix, *python])
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[:4] == [
        "CapPrm 0000000000000000",
        "CapEff 0000000000000000",
        "CapAmb 0000000000000000",
        "NoNewPrivs 1",
    ]
    assert lines[4:6] == ["uid 65534 65534 0", "score 1000"]
    assert lines[6:8] == ["fork True", "filter True"]
    assert [line for line in lines[8:] if not line.endswith(" True")] == []
    assert len(lines) == 8 + 11
