"""The hook that systemd-oomd calls before a kill."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from otel_oom.capture.userspace import prekill
from otel_oom.capture.userspace.prekill import HOOK_DIR, PrekillHook
from otel_oom.capture.userspace.processes import list_processes
from otel_oom.commands.unit import UNIT
from otel_oom.linux import clock
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.model.types import OomTask, TaskList

NOBODY = 65534
TASKS = TaskList("/a.service", 1, 1, 0, (OomTask(4711, "hog", 1 << 20, None, None),))


def list_tasks(path: str) -> TaskList | None:
    """Return the processes of one cgroup; another one is not readable."""
    if path == "/broken":
        raise OSError(path)
    return TASKS if path == TASKS.memcg else None


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[PrekillHook]:
    """Return a hook that answers."""
    opened = PrekillHook(list_tasks, tmp_path / "hooks")
    assert opened.open()
    yield opened
    opened.close()


def call(folder: Path, message: bytes) -> dict[str, object]:
    """Call the hook as systemd-oomd does, and return its answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30.0)
        client.connect(str(folder / "hooks" / "otel-oom"))
        client.sendall(message)
        reply = b""
        while not reply.endswith(b"\0"):
            reply += client.recv(4096)
        return dict(json.loads(reply[:-1]))


def notify(path: str) -> bytes:
    """Return the call for a cgroup."""
    parameters = {"cgroup": path}
    return json.dumps(
        {"method": "io.systemd.oom.Prekill.Notify", "parameters": parameters}
    ).encode()


def test_processes_of_the_call_are_kept_for_its_kill(tmp_path: Path, hook: PrekillHook) -> None:
    """Once: the next kill of that cgroup has others."""
    assert call(tmp_path, notify("/a.service") + b"\0") == {"parameters": {}}
    assert hook.take("/a.service") == TASKS
    assert hook.take("/a.service") is None


def test_every_call_is_answered(tmp_path: Path, hook: PrekillHook) -> None:
    """Also one that fails: systemd-oomd waits for it."""
    for path in ("/absent", "/broken"):
        assert call(tmp_path, notify(path) + b"\0") == {"parameters": {}}
        assert hook.take(path) is None
    for message in (b"", b"x", b"[]", b'{"method":"a.b"}', notify("relative"), notify("/../a")):
        assert "error" in call(tmp_path, message + b"\0")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "hooks" / "otel-oom"))
    assert "parameters" in call(tmp_path, notify("/absent") + b"\0")


def test_a_silent_caller_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: PrekillHook
) -> None:
    monkeypatch.setattr(prekill, "_LIMIT_S", 0.01)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "hooks" / "otel-oom"))
        assert call(tmp_path, notify("/a.service") + b"\0") == {"parameters": {}}
    assert hook.take("/none") is None


def test_only_root_can_call(tmp_path: Path, hook: PrekillHook) -> None:
    """The socket is replaced by the next start, and removed by its own end alone."""
    path = tmp_path / "hooks" / "otel-oom"
    assert path.stat().st_mode & 0o777 == 0o600
    with_next = PrekillHook(list_tasks, tmp_path / "hooks")
    assert with_next.open()
    hook.close()
    assert path.exists()
    with_next.close()
    assert not path.exists()


def test_without_a_folder_there_is_no_hook(tmp_path: Path) -> None:
    hook = PrekillHook(list_tasks, tmp_path / "absent" / "hooks")
    assert not hook.open()
    hook.close()


def test_processes_are_those_of_the_kernel(tmp_path: Path) -> None:
    """Names and memory as /proc has them; none that started after the message."""
    with subprocess.Popen(["sleep", "60"]) as child:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "cgroup.procs").write_text(f"{child.pid}\n{1 << 23}\n", encoding="ascii")
        cgroups = CgroupMount(tmp_path, "/", v1=False)
        tasks = list_processes(cgroups, "/")
        before = list_processes(cgroups, "/a", before_ns=clock.boottime_ns() - 3600 * 10**9)
        status = Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
        child.kill()
    assert tasks is not None
    (task,) = tasks.largest
    assert (task.tgid, task.uid, before) == (child.pid, os.getuid(), None)
    largest_kb = int(status.split("VmHWM:")[1].split()[0])
    assert 0 < task.resident <= largest_kb << 10
    assert task.comm in {"sleep", "pytest", "python"}


def run_hook_command(setting: str, folder: Path) -> None:
    """Run the unit's command for the folder of the hooks as systemd does, in another folder."""
    pattern = rf"(?m)^{setting}=-\+/bin/sh -c '(.*{HOOK_DIR}.*)'$"
    (command,) = re.findall(pattern, UNIT.read_text(encoding="utf-8"))
    command = command.replace("%%", "%").replace(str(HOOK_DIR), str(folder / "hooks"))
    environ = {**os.environ, "STATE_DIRECTORY": str(folder / "state")}
    subprocess.run(["/bin/sh", "-c", command], env=environ, check=True)


@pytest.mark.root
def test_the_unit_lets_its_user_add_a_hook_at_any_time() -> None:
    """Also long after READY=1, and no hook of another program can be removed."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as as_user:
        folder, other = Path(name), Path(name, "hooks", "other")
        folder.chmod(0o755)
        (folder / "state").mkdir()
        os.chown(folder / "state", NOBODY, NOBODY)
        run_hook_command("ExecStartPre", folder)
        other.touch()
        # Effective ids, by which files are opened.
        as_user.callback(os.setegid, 0)
        as_user.callback(os.seteuid, 0)
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        hook = PrekillHook(list_tasks, folder / "hooks")
        assert hook.open()
        with pytest.raises(PermissionError):
            other.unlink()
        as_user.close()
        assert call(folder, notify("/a.service") + b"\0") == {"parameters": {}}
        run_hook_command("ExecStopPost", folder)
        hook.close()
        assert list((folder / "hooks").iterdir()) == [other]
        status = (folder / "hooks").stat()
        assert (status.st_mode & 0o7777, status.st_gid) == (0o755, 0)
