"""What the host or the installation lacks for kills to be captured."""

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
class Lack:
    """A situation: how to get into it, and what is said of it.

    ``by_agent`` is whether it shows only when the kernel is asked, which is the agent's task.
    """

    prefix: tuple[str, ...]
    wrong: str
    advice: str
    cwd: Path | None = None
    by_agent: bool = False


def _not_root(_: Path) -> Lack:
    require(os.geteuid() == 0, "to become somebody else needs root")
    return Lack(NOBODY, "may not load BPF programs", "Run it as root")


def _no_capability(_: Path) -> Lack:
    require(os.geteuid() == 0, "to drop what only root has")
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")
    return Lack(prefix, "may not load BPF programs", "CAP_BPF and CAP_PERFMON")


def _user_namespace(_: Path) -> Lack:
    possible = run_command([*USER_NAMESPACE, sys.executable, "-c", ""]).code == 0
    require(possible, "no user namespace is allowed here")
    wrong = "lets this process load no BPF programs"
    return Lack(USER_NAMESPACE, wrong, "run it on the host", by_agent=True)


def _no_btf(_: Path) -> Lack:
    prefix = mount_namespace("mount -t tmpfs none /sys/kernel/btf")
    return Lack(prefix, "This kernel has no BTF", "CONFIG_DEBUG_INFO_BTF=y")


def _no_libbpf(_: Path) -> Lack:
    known = run_command(["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin ldconfig -p"]).out
    files = {Path(path).resolve() for path in re.findall(r"libbpf\.so\.1 .*=> (.*)", known)}
    require(files, "libbpf is not here to be hidden")
    prefix = mount_namespace(*(f"mount --bind /dev/null {file}" for file in sorted(files)))
    return Lack(prefix, "libbpf 1.x cannot be loaded", "apt-get install libbpf1")


def _package(folder: Path) -> Path:
    """The package without its BPF object, where Python finds it first."""
    source = Path(otel_oom.__file__).parent
    ignored = shutil.ignore_patterns("*.bpf.o", "__pycache__")
    shutil.copytree(source, folder / "otel_oom", ignore=ignored)
    return folder


def _no_object(folder: Path) -> Lack:
    return Lack((), "is not in this installation", "make -C bpf", _package(folder))


def _broken_object(folder: Path) -> Lack:
    require(os.geteuid() == 0, "without root the object is not even tried")
    _package(folder)
    (folder / "otel_oom/capture/bpf/oom.bpf.o").write_bytes(b"\x7fELF, and no more")
    return Lack((), "oom.bpf.o can't be used", "make -C bpf", folder, by_agent=True)


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
def lack(request: pytest.FixtureRequest, tmp_path: Path) -> Lack:
    """Each of the situations."""
    make: Callable[[Path], Lack] = request.param
    return make(tmp_path)


@pytest.fixture
def anyones(tmp_path: Path) -> Path:
    """A folder in which everybody may write."""
    folder = tmp_path / "anyones"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def test_the_agent_says_why_it_cannot_capture(lack: Lack, anyones: Path) -> None:
    """``run`` ends with exit code 1 and one message: what is wrong, and the way out."""
    words = ("run", "--no-pin", "--source", "libbpf", "--state-dir", anyones / "state")
    done = command(*words, prefix=lack.prefix, cwd=lack.cwd)
    assert done.code == 1
    assert lack.wrong in done.error_message()
    assert lack.advice in done.error_message()


def _doctor(lack: Lack) -> tuple[CompletedCommand, dict[str, dict[str, str]]]:
    """What ``doctor`` finds there, by name; sending is no part of it."""
    off = {"OTEL_SDK_DISABLED": "true"}
    done = command("doctor", "--json", prefix=lack.prefix, cwd=lack.cwd, env=off)
    assert done.err == ""
    return done, {finding["name"]: finding for finding in json.loads(done.out)["findings"]}


def test_doctor_says_why_bpf_is_refused(lack: Lack) -> None:
    """It is a warning where the kernel's log can be read, and else a failure, with exit code 1.

    The way out is the advice of the finding.
    """
    readable = run_command([*lack.prefix, "head", "-c0", "/dev/kmsg"]).code == 0
    done, found = _doctor(lack)
    hook, log = found["hook"], found["kernel log"]
    assert lack.wrong in hook["detail"]
    assert lack.advice in hook["advice"]
    assert (hook["state"], log["state"]) == (("warn", "ok") if readable else ("fail", "fail"))
    assert ("--source auto" in hook["advice"]) == readable
    assert done.code == (0 if readable else 1)


def test_doctor_fails_where_nothing_can_be_read() -> None:
    """Without BTF and without the kernel's log no kill can be captured at all."""
    hide = ("mount -t tmpfs none /sys/kernel/btf", "mount --bind /proc/self/mem /dev/kmsg")
    done, found = _doctor(Lack(mount_namespace(*hide), "", ""))
    assert done.code == 1
    for name in ("BTF", "hook", "kernel log"):
        assert (found[name]["state"], found[name]["advice"] != "") == ("fail", True)


@pytest.mark.usefixtures("real_kills")
def test_a_log_that_cannot_be_read_is_a_warning_where_bpf_is_allowed() -> None:
    """It is needed for nothing then but what a hook may not tell."""
    done, found = _doctor(Lack(mount_namespace("mount --bind /proc/self/mem /dev/kmsg"), "", ""))
    assert (done.code, found["hook"]["state"], found["kernel log"]["state"]) == (0, "ok", "warn")


def test_the_demonstration_says_why_it_cannot_be(lack: Lack, anyones: Path) -> None:
    """``demo`` ends with exit code 1 and the same words, at once."""
    done = command("demo", prefix=lack.prefix, cwd=lack.cwd, env={"TMPDIR": str(anyones)})
    assert (done.code, done.out) == (1, "")
    assert "Traceback" not in done.err
    said = done.err if lack.by_agent else done.error_message()
    assert lack.wrong in said
    assert lack.advice in said
    assert not list(anyones.iterdir())


@pytest.mark.parametrize("make", [_no_btf, _no_libbpf, _no_object])
def test_where_bpf_is_refused_the_agent_reads_the_kernels_log(
    make: Callable[[Path], Lack], tmp_path: Path
) -> None:
    """It says so once, with the reason, and captures a real kill all the same."""
    require(os.geteuid() == 0, "to read the kernel's log")
    lack = make(tmp_path)
    words: list[str | Path] = [*lack.prefix, sys.executable, "-m", "otel_oom", "run"]
    words += ["--no-pin", "--state-dir", tmp_path / "state"]
    settings = os.environ | {"OTEL_SDK_DISABLED": "true"}
    with subprocess.Popen(words, cwd=lack.cwd, stderr=subprocess.PIPE, env=settings) as agent:
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
    assert said.count(lack.wrong.encode()) == 1
    assert b"/dev/kmsg" in said
