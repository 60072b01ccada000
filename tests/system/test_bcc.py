"""Kills captured by BCC on the running kernel, compared with libbpf's.

The kernel may come without headers: they are built from its type information.
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
from tests.testlib.kernel.ring_storm import RING_BYTES, check_ring_share
from tests.testlib.require import require
from tests.testlib.wait import wait_until

pytestmark = pytest.mark.usefixtures("real_kills")


@pytest.fixture(scope="module")
def built_headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build headers for the running kernel."""
    try:
        installed_bcc()
    except CaptureError as error:
        require(condition=False, reason=str(error))
    folder = tmp_path_factory.mktemp("headers")
    btf_headers.write(folder)
    return folder


@pytest.fixture(scope="module")
def headers(built_headers: Path) -> Iterator[Path]:
    """Set the variable by which BCC finds them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(built_headers))
        yield built_headers


@pytest.fixture(scope="module")
def source(headers: Path) -> Iterator[BccSource]:
    """Compile and attach the kernel side."""
    del headers
    with BccSource() as attached:
        yield attached


def capture(source: BccSource | LibbpfSource, pid: int) -> tuple[OomKill, VictimExit]:
    """Return the kill and the exit of a process."""
    events: list[CapturedEvent] = []

    def kill_and_exit() -> tuple[OomKill, VictimExit] | None:
        source.drain(events.append)
        kills = [it for it in events if isinstance(it, OomKill) and it.victim.tgid == pid]
        exits = [it for it in events if isinstance(it, VictimExit) and it.tgid == pid]
        return (kills[0], exits[0]) if kills and exits else None

    return wait_until(kill_and_exit, "the kill and its exit") or pytest.fail("not reached")


def test_bcc_and_libbpf_capture_the_same_kill(source: BccSource) -> None:
    with LibbpfSource() as libbpf:
        pid = kill_one()
        (kill, exit_), (libbpf_kill, libbpf_exit) = capture(source, pid), capture(libbpf, pid)
    assert (kill.capture.source, libbpf_kill.capture.source) == ("bcc", "libbpf")
    assert comparable_fields(kill) == comparable_fields(libbpf_kill)
    assert comparable_fields(exit_) == comparable_fields(libbpf_exit)
    assert kill.memory is not None
    assert kill.memory.anon > 0
    assert kill.victim.executable == os.path.realpath(shutil.which("tail") or "")
    assert kill.memcg is not None
    assert kill.stack
    assert exit_.exit_code == signal.SIGKILL


def test_mark_stays_after_its_record_is_read(source: BccSource) -> None:
    assert isinstance(source, SupportsMarks)
    kill, _ = capture(source, kill_one())
    assert kill.victim.tid is not None
    marks = source.read_marks([kill.victim.tid])
    assert [(mark.tgid, mark.boottime_ns) for mark in marks] == [
        (kill.victim.tgid, kill.boottime_ns)
    ]


def test_victim_in_namespaces_is_captured_as_by_libbpf(source: BccSource) -> None:
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
        kill, libbpf_kill = (
            wait_until(partial(_of_namespace, each, pid_ns), "the kill")
            for each in (source, libbpf)
        )
    assert kill is not None
    assert libbpf_kill is not None
    assert comparable_fields(kill) == comparable_fields(libbpf_kill)
    assert (kill.victim.namespaced_pid, kill.victim.uid, kill.victim.gid) == (1, 65534, 65533)


def _of_namespace(source: BccSource | LibbpfSource, pid_ns: int) -> OomKill | None:
    events: list[CapturedEvent] = []
    source.drain(events.append)
    kills = (event for event in events if isinstance(event, OomKill))
    return next((kill for kill in kills if kill.victim.pid_ns == pid_ns), None)


def test_event_of_a_failed_handler_stays_pending(source: BccSource) -> None:
    pid = kill_one()

    def full(_event: object) -> None:
        raise OSError("no space left on device")

    for _ in range(3):
        with pytest.raises(OSError, match="no space"):
            source.drain(full)
    kill, _ = capture(source, pid)
    assert kill.victim.tgid == pid


def test_command_line_is_recorded_on_request_only(headers: Path, source: BccSource) -> None:
    del headers
    with BccSource(want_command=True) as with_command:
        pid = kill_one()
        recorded, default = capture(with_command, pid), capture(source, pid)
    assert recorded[0].victim.command == ("tail", "/dev/zero")
    assert default[0].victim.command is None


def test_lost_events_of_a_full_ring_buffer_are_counted(headers: Path) -> None:
    del headers
    with BccSource(ring_bytes=os.sysconf("SC_PAGE_SIZE")) as small:
        for _ in range(8):
            kill_one()
        events: list[CapturedEvent] = []
        small.drain(events.append)
        lost = small.lost_events()
    assert 0 < sum(isinstance(event, OomKill) for event in events) < 8
    assert lost.victims > 0


def test_quiet_holders_kill_is_complete_beside_a_storm(headers: Path) -> None:
    del headers
    with BccSource(RING_BYTES) as source:
        check_ring_share(source)


def test_compiler_does_not_stay(headers: Path) -> None:
    del headers
    before = count_open_files()
    with BccSource():
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
        assert "libLLVM" not in mapped
        assert "libbcc" not in mapped
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        commands = [Path(f"/proc/{pid}/cmdline") for pid in children.read_text().split()]
        assert not [it for it in commands if it.exists() and b"child_main" in it.read_bytes()]
    assert count_open_files() == before


def test_auto_uses_bcc_without_btf(headers: Path, tmp_path: Path) -> None:
    del headers
    prefix = mount_namespace("mount -t tmpfs none /sys/kernel/btf")
    with run_agent(tmp_path, {"OTEL_SDK_DISABLED": "true"}, prefix=prefix) as running:
        wait_until(lambda: "(bcc)" in running.log_text(), "the source in the agent's log")
        pid = kill_one()
        wait_until(lambda: f"(pid {pid})" in running.log_text(), "the kill in the agent's log")
        assert running.stop() == 0


@pytest.mark.parametrize("there", [True, False], ids=["headers", "no_headers"])
def test_doctor_checks_bcc_without_btf(built_headers: Path, tmp_path: Path, *, there: bool) -> None:
    prefix = mount_namespace("mount -t tmpfs none /sys/kernel/btf")
    env = {"OTEL_SDK_DISABLED": "true", VARIABLE: str(built_headers if there else tmp_path)}
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


def test_headers_of_another_kernel_are_an_error(
    built_headers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their structures may differ."""
    other = tmp_path / "include/generated/utsrelease.h"
    other.parent.mkdir(parents=True)
    own = (built_headers / "include/generated/utsrelease.h").read_text()
    other.write_text(own.replace(os.uname().release, "4.18.0-other"))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(CaptureError, match=r"those of 4\.18\.0-other") as raised, BccSource():
        pass
    assert f"linux-headers-{os.uname().release}" in str(raised.value)


def test_missing_headers_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(CaptureError, match="needs the headers of this kernel") as raised:
        BccSource().__enter__()
    assert f"linux-headers-{os.uname().release}" in str(raised.value)
    assert VARIABLE in str(raised.value)


def test_compile_error_has_the_first_error_of_the_compiler(
    built_headers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(built_headers, tmp_path / "broken")
    (tmp_path / "broken/include/linux/oom.h").write_text('#error "no such kernel"\n')
    monkeypatch.setenv(VARIABLE, str(tmp_path / "broken"))
    with pytest.raises(BccError, match=r"linux/oom\.h:1:2: error: .no such kernel") as raised:
        BccSource().__enter__()
    assert "\n" not in str(raised.value)


def test_oom_kill_of_the_compiler_is_an_error(headers: Path, tmp_path: Path) -> None:
    del headers
    interpreter = tmp_path / "python"
    with own_memcg() as memcg:
        joined = f'echo $$ > {memcg.procs}\nexec {SYSTEM_PYTHON} "$@"\n'
        interpreter.write_text(f"#!/bin/sh\n{joined}")
        interpreter.chmod(0o700)
        with pytest.raises(BccError, match="BCC was killed") as raised:
            BccSource(interpreters=[str(interpreter)]).__enter__()
    assert "MemoryMax=" in str(raised.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, "There is no BCC for"),
        ('__version__ = "0.4.5"\n', "is not BCC but another project of that name"),
        ("import ctypes\nctypes.CDLL('libbcc.so.none')\n", "BCC's library cannot be loaded"),
    ],
    ids=["absent", "other", "no_library"],
)
def test_missing_or_foreign_bcc_is_an_error(
    headers: Path, tmp_path: Path, module: str | None, message: str
) -> None:
    del headers
    venv.create(tmp_path, with_pip=False)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    if module is not None:
        (packages / "bcc.py").write_text(module)
    with pytest.raises(BccError, match=message) as raised:
        BccSource(interpreters=[str(tmp_path / "bin/python")]).__enter__()
    assert "apt-get install python3-bpfcc" in str(raised.value)


def test_system_bcc_is_found_beside_a_foreign_module(headers: Path, tmp_path: Path) -> None:
    del headers
    venv.create(tmp_path, with_pip=False)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    (packages / "bcc.py").write_text('__version__ = "0.4.5"\n')
    with BccSource(interpreters=[str(tmp_path / "bin/python"), SYSTEM_PYTHON]) as source:
        assert source.hook == "raw_tp/mark_victim"
