"""Hosts and installations on which kills can't be captured, or not by BPF."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import otel_oom
from tests.testlib.command import NOBODY, CompletedCommand, mount_namespace, run_command
from tests.testlib.command import run_otel_oom as command
from tests.testlib.kernel.kills import kill_one
from tests.testlib.require import require

pytestmark = pytest.mark.root

USER_NAMESPACE = ("unshare", "--user", "--map-root-user", "--")


@dataclass(frozen=True)
class Obstacle:
    """An obstacle: how to run a command with it, and the words of its message.

    ``by_agent``: only a request to the kernel shows it, which the agent makes and not doctor.
    """

    prefix: tuple[str, ...]
    wrong: str
    advice: str
    cwd: Path | None = None
    by_agent: bool = False


def _not_root(_: Path) -> Obstacle:
    require(os.geteuid() == 0, "to become somebody else needs root")
    return Obstacle(NOBODY, "may not load BPF programs", "Run it as root")


def _no_capability(_: Path) -> Obstacle:
    require(os.geteuid() == 0, "to drop what only root has")
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")
    return Obstacle(prefix, "may not load BPF programs", "CAP_BPF and CAP_PERFMON")


def _user_namespace(_: Path) -> Obstacle:
    possible = run_command([*USER_NAMESPACE, sys.executable, "-c", ""]).code == 0
    require(possible, "no user namespace is allowed here")
    wrong = "lets this process load no BPF programs"
    return Obstacle(USER_NAMESPACE, wrong, "run it on the host", by_agent=True)


def _no_btf(_: Path) -> Obstacle:
    prefix = mount_namespace("mount -t tmpfs none /sys/kernel/btf")
    return Obstacle(prefix, "This kernel has no BTF", "CONFIG_DEBUG_INFO_BTF=y")


def _no_libbpf(_: Path) -> Obstacle:
    known = run_command(["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin ldconfig -p"]).out
    files = {Path(path).resolve() for path in re.findall(r"libbpf\.so\.1 .*=> (.*)", known)}
    require(files, "libbpf is not here to be hidden")
    prefix = mount_namespace(*(f"mount --bind /dev/null {file}" for file in sorted(files)))
    return Obstacle(prefix, "libbpf 1.x cannot be loaded", "apt-get install libbpf1")


def _copy_package(folder: Path) -> Path:
    """Copy the package without its BPF object to where Python finds it first."""
    source = Path(otel_oom.__file__).parent
    ignored = shutil.ignore_patterns("*.bpf.o", "__pycache__")
    shutil.copytree(source, folder / "otel_oom", ignore=ignored)
    return folder


def _no_object(folder: Path) -> Obstacle:
    return Obstacle((), "is not in this installation", "make -C bpf", _copy_package(folder))


def _broken_object(folder: Path) -> Obstacle:
    require(os.geteuid() == 0, "without root the object is not even tried")
    _copy_package(folder)
    (folder / "otel_oom/capture/bpf/oom.bpf.o").write_bytes(b"\x7fELF, and no more")
    return Obstacle((), "oom.bpf.o can't be used", "make -C bpf", folder, by_agent=True)


@pytest.fixture(
    params=[
        _not_root,
        _no_capability,
        _user_namespace,
        _no_btf,
        _no_libbpf,
        _no_object,
        _broken_object,
    ],
    ids=lambda make: make.__name__.strip("_"),
)
def obstacle(request: pytest.FixtureRequest, tmp_path: Path) -> Obstacle:
    """Return each of them."""
    make: Callable[[Path], Obstacle] = request.param
    return make(tmp_path)


@pytest.fixture
def public_folder(tmp_path: Path) -> Path:
    """Create a directory that everybody may write to."""
    folder = tmp_path / "public_folder"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def test_run_reports_why_it_cannot_capture(obstacle: Obstacle, public_folder: Path) -> None:
    """It ends with exit code 1 and one message: the cause, and what to do."""
    words = ("run", "--no-pin", "--source", "libbpf", "--state-dir", public_folder / "state")
    done = command(*words, prefix=obstacle.prefix, cwd=obstacle.cwd)
    assert done.code == 1
    assert obstacle.wrong in done.error_message()
    assert obstacle.advice in done.error_message()


def _run_doctor(obstacle: Obstacle) -> tuple[CompletedCommand, dict[str, dict[str, str]]]:
    """Return the findings of ``doctor`` by name, without those of the endpoints."""
    off = {"OTEL_SDK_DISABLED": "true"}
    done = command("doctor", "--json", prefix=obstacle.prefix, cwd=obstacle.cwd, env=off)
    assert done.err == ""
    return done, {finding["name"]: finding for finding in json.loads(done.out)["checks"]}


def test_doctor_reports_why_bpf_is_unavailable(obstacle: Obstacle) -> None:
    """A warning if the kernel log is readable, else a failure with exit code 1."""
    readable = run_command([*obstacle.prefix, "head", "-c0", "/dev/kmsg"]).code == 0
    done, found = _run_doctor(obstacle)
    hook, log = found["hook"], found["kernel log"]
    assert obstacle.wrong in hook["detail"]
    assert obstacle.advice in hook["advice"]
    assert (hook["state"], log["state"]) == (("warn", "ok") if readable else ("fail", "fail"))
    assert ("--source auto" in hook["advice"]) == readable
    assert done.code == (0 if readable else 1)


def _hide_log(*commands: str) -> Obstacle:
    """Return an obstacle: no device of the log, and no right to read it by syslog(2)."""
    restricted = Path("/proc/sys/kernel/dmesg_restrict").read_text(encoding="ascii").strip()
    require(restricted == "1", "everybody may read the log of this kernel")
    drop = ("setpriv", "--bounding-set=-syslog", "--inh-caps=-syslog", "--")
    prefix = mount_namespace("mount --bind /proc/self/mem /dev/kmsg", *commands)
    return Obstacle((*prefix, *drop), "", "")


def test_doctor_fails_without_btf_and_kernel_log() -> None:
    done, found = _run_doctor(_hide_log("mount -t tmpfs none /sys/kernel/btf"))
    assert done.code == 1
    for name in ("BTF", "hook", "kernel log"):
        assert (found[name]["state"], found[name]["advice"] != "") == ("fail", True)


@pytest.mark.usefixtures("real_kills")
def test_an_unreadable_log_is_a_warning_where_bpf_is_available() -> None:
    done, found = _run_doctor(_hide_log())
    assert (done.code, found["hook"]["state"], found["kernel log"]["state"]) == (0, "ok", "warn")


def test_demo_reports_why_it_cannot_capture(obstacle: Obstacle, public_folder: Path) -> None:
    """It ends at once with exit code 1 and the same message."""
    done = command(
        "demo", prefix=obstacle.prefix, cwd=obstacle.cwd, env={"TMPDIR": str(public_folder)}
    )
    assert (done.code, done.out) == (1, "")
    assert "Traceback" not in done.err
    said = done.err if obstacle.by_agent else done.error_message()
    assert obstacle.wrong in said
    assert obstacle.advice in said
    assert not list(public_folder.iterdir())


@pytest.mark.parametrize("make", [_no_btf, _no_libbpf, _no_object])
def test_without_bpf_the_agent_reads_the_kernel_log(
    make: Callable[[Path], Obstacle], tmp_path: Path
) -> None:
    """It says so once, with the reason, and captures a real kill."""
    require(os.geteuid() == 0, "to read the kernel's log")
    obstacle = make(tmp_path)
    words: list[str | Path] = [*obstacle.prefix, sys.executable, "-m", "otel_oom", "run"]
    words += ["--no-pin", "--state-dir", tmp_path / "state"]
    settings = os.environ | {"OTEL_SDK_DISABLED": "true"}
    with subprocess.Popen(words, cwd=obstacle.cwd, stderr=subprocess.PIPE, env=settings) as agent:
        assert agent.stderr is not None
        said = b""
        while b"Ready" not in said:
            line = agent.stderr.readline()
            assert line, said
            said += line
        pid = kill_one()
        while b"pid %d)" % pid not in said:
            line = agent.stderr.readline()
            assert line, said
            said += line
        agent.terminate()
        said += agent.stderr.read()
    assert agent.returncode == 0
    assert said.count(obstacle.wrong.encode()) == 1
    assert b"/dev/kmsg" in said


@pytest.mark.usefixtures("real_kills")
def test_the_log_is_read_without_its_device() -> None:
    """As in a pod, by CAP_SYSLOG alone."""
    done, found = _run_doctor(Obstacle(mount_namespace("mount --bind /dev/null /dev/kmsg"), "", ""))
    assert (done.code, found["kernel log"]["detail"]) == (0, "syslog(2)")
