"""The source that BCC compiles, on the running kernel, beside libbpf's.

This machine's kernel may publish no headers of its own: they are made of its type information.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from otel_oom.capture.bcc.child import SYSTEM_PYTHON, BccError, installed_bcc
from otel_oom.capture.bcc.kernel_headers import VARIABLE
from otel_oom.capture.bcc.source import BccSource
from otel_oom.capture.bpf.source import LibbpfSource
from otel_oom.capture.source import CaptureError, SupportsMarks
from otel_oom.model.events import CapturedEvent, OomKill, VictimExit
from tests.testlib.agent import run_agent
from tests.testlib.command import mount_namespace, run_otel_oom
from tests.testlib.kernel import btf_headers
from tests.testlib.kernel.bcc import comparable_fields, count_open_files
from tests.testlib.kernel.kills import kill_one
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.require import require
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Headers for the running kernel."""
    try:
        installed_bcc()
    except CaptureError as error:
        require(condition=False, reason=str(error))
    folder = tmp_path_factory.mktemp("headers")
    btf_headers.write(folder)
    return folder


@pytest.fixture(scope="module")
def headers(made: Path) -> Iterator[Path]:
    """Those, where BCC looks for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(made))
        yield made


@pytest.fixture(scope="module")
def source(headers: Path) -> Iterator[BccSource]:
    """The kernel side, compiled and attached."""
    del headers
    with BccSource() as attached:
        yield attached


def told(source: BccSource | LibbpfSource, pid: int) -> tuple[OomKill, VictimExit]:
    """The kill of that process and its end, of all that there may be."""
    events: list[CapturedEvent] = []

    def both() -> tuple[OomKill, VictimExit] | None:
        source.drain(events.append)
        kills = [it for it in events if isinstance(it, OomKill) and it.victim.tgid == pid]
        exits = [it for it in events if isinstance(it, VictimExit) and it.tgid == pid]
        return (kills[0], exits[0]) if kills and exits else None

    return wait_until(both, "the kill and its end") or pytest.fail("not reached")


def test_both_sources_tell_the_same_of_one_kill(source: BccSource) -> None:
    """Each field of a kill and of its end is the one that libbpf has, at the same time."""
    with LibbpfSource() as libbpf:
        pid = kill_one()
        (kill, exit_), (seen, ended) = told(source, pid), told(libbpf, pid)
    assert (kill.capture.source, seen.capture.source) == ("bcc", "libbpf")
    assert comparable_fields(kill) == comparable_fields(seen)
    assert comparable_fields(exit_) == comparable_fields(ended)
    assert kill.memory is not None
    assert kill.memory.anon > 0
    assert kill.victim.executable == os.path.realpath(shutil.which("tail") or "")
    assert kill.memcg is not None
    assert kill.stack
    assert exit_.exit_code == signal.SIGKILL


def test_its_marks_outlive_its_records(source: BccSource) -> None:
    """What the kernel's log has of a kill can be recognised when its record is long gone."""
    assert isinstance(source, SupportsMarks)
    kill, _ = told(source, kill_one())
    assert kill.victim.tid is not None
    marks = source.read_marks([kill.victim.tid])
    assert [(mark.tgid, mark.boottime_ns) for mark in marks] == [
        (kill.victim.tgid, kill.boottime_ns)
    ]


def test_a_victim_in_namespaces_of_its_own_is_told_the_same(source: BccSource) -> None:
    """So are the pid there, both namespaces, user and group."""
    child = (
        "import os, sys\n"
        "open(sys.argv[1], 'w').write('0')\n"
        "os.setresgid(65533, 65533, 65533)\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "print(os.stat('/proc/self/ns/pid').st_ino, flush=True)\n"
        "held = b'x' * (64 << 20)\n"
    )
    unshare = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    with LibbpfSource() as libbpf, own_memcg() as memcg:
        words: list[str | Path] = [*unshare, sys.executable, "-c", child, memcg.procs]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as outer:
            assert outer.stdout is not None
            pid_ns = int(outer.stdout.readline())
            outer.wait(60)
        kill, seen = (
            wait_until(partial(_of_namespace, it, pid_ns), "the kill") for it in (source, libbpf)
        )
    assert kill is not None
    assert seen is not None
    assert comparable_fields(kill) == comparable_fields(seen)
    assert (kill.victim.namespaced_pid, kill.victim.uid, kill.victim.gid) == (1, 65534, 65533)


def _of_namespace(source: BccSource | LibbpfSource, pid_ns: int) -> OomKill | None:
    events: list[CapturedEvent] = []
    source.drain(events.append)
    kills = (event for event in events if isinstance(event, OomKill))
    return next((kill for kill in kills if kill.victim.pid_ns == pid_ns), None)


def test_a_failing_handler_keeps_the_event(source: BccSource) -> None:
    """An event whose handler raised comes again, as it does from libbpf."""
    pid = kill_one()

    def full(_event: object) -> None:
        raise OSError("no space left on device")

    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            source.drain(full)
    kill, _ = told(source, pid)
    assert kill.victim.tgid == pid


def test_the_command_line_is_told_on_request_alone(headers: Path, source: BccSource) -> None:
    """The setting reaches what is compiled."""
    del headers
    with BccSource(want_command=True) as asked:
        pid = kill_one()
        told_, untold = told(asked, pid), told(source, pid)
    assert told_[0].victim.command == ("tail", "/dev/zero")
    assert untold[0].victim.command is None


def test_a_full_ring_buffer_is_counted(headers: Path) -> None:
    """The ring has the size asked for, and what had no room in it is told by number."""
    del headers
    with BccSource(ring_bytes=os.sysconf("SC_PAGE_SIZE")) as small:
        for _ in range(8):
            kill_one()
        events: list[CapturedEvent] = []
        small.drain(events.append)
        lost = small.lost_events()
    assert 0 < sum(isinstance(event, OomKill) for event in events) < 8
    assert lost.victims > 0


def test_the_compiler_does_not_stay(headers: Path) -> None:
    """Neither its process nor its libraries are there once it has compiled, nor is BCC."""
    del headers
    before = count_open_files()
    with BccSource():
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
        assert "libLLVM" not in mapped
        assert "libbcc" not in mapped
        me = Path(f"/proc/self/task/{os.getpid()}/children")
        commands = [Path(f"/proc/{pid}/cmdline") for pid in me.read_text().split()]
        assert not [it for it in commands if it.exists() and b"child_main" in it.read_bytes()]
    assert count_open_files() == before


def test_auto_compiles_where_there_is_no_btf(headers: Path, tmp_path: Path) -> None:
    """The agent on a kernel without BTF takes BCC by itself, and stores what that tells."""
    del headers
    prefix = mount_namespace("mount -t tmpfs none /sys/kernel/btf")
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, prefix=prefix) as running:
        wait_until(lambda: "(bcc)" in running.log_text(), "the source in the agent's log")
        pid = kill_one()
        wait_until(lambda: f"(pid {pid})" in running.log_text(), "the kill in the agent's log")
        assert running.stop() == 0


@pytest.mark.parametrize("there", [True, False], ids=["headers", "no_headers"])
def test_doctor_tries_it_where_there_is_no_btf(made: Path, tmp_path: Path, *, there: bool) -> None:
    """It says by which hooks BCC captures, or what it lacks; the log stands in for it."""
    prefix = mount_namespace("mount -t tmpfs none /sys/kernel/btf")
    env = {"OTEL_SDK_DISABLED": "true", VARIABLE: str(made if there else tmp_path)}
    done = run_otel_oom("doctor", "--json", prefix=prefix, env=env)
    assert (done.code, done.err) == (0, "")
    found = {finding["name"]: finding for finding in json.loads(done.out)["checks"]}
    if there:
        assert found["BCC"]["state"] == "ok"
        assert found["BCC"]["detail"].startswith("raw_tp/mark_victim")
        assert "reads kills from the kernel log" not in found["hook"]["advice"]
    else:
        assert found["BCC"]["state"] == "warn"
        assert f"linux-headers-{os.uname().release}" in found["BCC"]["advice"]
        assert "reads kills from the kernel log" in found["hook"]["advice"]


def test_headers_of_another_kernel_are_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Structures may be laid out otherwise there: no wrong number is told, but what to install."""
    other = tmp_path / "include/generated/utsrelease.h"
    other.parent.mkdir(parents=True)
    own = (made / "include/generated/utsrelease.h").read_text()
    other.write_text(own.replace(os.uname().release, "4.18.0-other"))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(CaptureError, match=r"those of 4\.18\.0-other") as refused, BccSource():
        pass
    assert f"linux-headers-{os.uname().release}" in str(refused.value)


def test_no_headers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which to install, and how to say where they are."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(CaptureError, match="needs the headers of this kernel") as refused:
        BccSource().__enter__()
    assert f"linux-headers-{os.uname().release}" in str(refused.value)
    assert VARIABLE in str(refused.value)


def test_what_does_not_compile_is_told_in_a_sentence(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all that the compiler prints it is the first error, with its place."""
    shutil.copytree(made, tmp_path / "broken")
    (tmp_path / "broken/include/linux/oom.h").write_text('#error "no such kernel"\n')
    monkeypatch.setenv(VARIABLE, str(tmp_path / "broken"))
    with pytest.raises(BccError, match=r"linux/oom\.h:1:2: error: .no such kernel") as refused:
        BccSource().__enter__()
    assert "\n" not in str(refused.value)


def test_a_compiler_without_memory_is_told(headers: Path, tmp_path: Path) -> None:
    """What a service's limit does to it is told with what to raise."""
    del headers
    interpreter = tmp_path / "python"
    with own_memcg() as memcg:
        joined = f'echo $$ > {memcg.procs}\nexec {SYSTEM_PYTHON} "$@"\n'
        interpreter.write_text(f"#!/bin/sh\n{joined}")
        interpreter.chmod(0o700)
        with pytest.raises(BccError, match="BCC was killed") as refused:
            BccSource(interpreters=[str(interpreter)]).__enter__()
    assert "MemoryMax=" in str(refused.value)


@pytest.mark.parametrize(
    ("module", "wrong"),
    [
        (None, "There is no BCC for"),
        ('__version__ = "0.4.5"\n', "is not BCC but another project of that name"),
        ("import ctypes\nctypes.CDLL('libbcc.so.none')\n", "BCC's library cannot be loaded"),
    ],
    ids=["absent", "other", "no_library"],
)
def test_what_is_not_bcc_is_refused(
    headers: Path, tmp_path: Path, module: str | None, wrong: str
) -> None:
    """No module of that name, the one that PyPI has, one without its library: what to install."""
    del headers
    venv.create(tmp_path, with_pip=False)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    if module is not None:
        (packages / "bcc.py").write_text(module)
    with pytest.raises(BccError, match=wrong) as refused:
        BccSource(interpreters=[str(tmp_path / "bin/python")]).__enter__()
    assert "apt-get install python3-bpfcc" in str(refused.value)


def test_the_systems_bcc_is_found_beside_another_module(headers: Path, tmp_path: Path) -> None:
    """What PyPI has by that name in our own environment is in nobody's way."""
    del headers
    venv.create(tmp_path, with_pip=False)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    (packages / "bcc.py").write_text('__version__ = "0.4.5"\n')
    with BccSource(interpreters=[str(tmp_path / "bin/python"), SYSTEM_PYTHON]) as source:
        assert source.hook == "raw_tp/mark_victim"
