"""What started a process, by the files that its manager leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_oom.linux import launcher
from otel_oom.linux.launcher import Launcher, detect_launcher

_OVERLAY = "540 471 0:58 / / rw - overlay overlay rw\n"
_DISK = "27 1 254:0 / / rw - ext4 /dev/root rw\n"
_INITIAL_PID_NS = "pid:[4026531836]"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root directory of a host, in which this process is on the host's own disk."""
    for pid in ("self", "1"):
        folder = tmp_path / "proc" / pid
        folder.mkdir(parents=True)
        (folder / "mountinfo").write_text(_DISK, encoding="ascii")
    return tmp_path


def _enter_container(root: Path, mark: str) -> None:
    (root / mark).parent.mkdir(exist_ok=True)
    (root / mark).touch()
    (root / "proc/self/mountinfo").write_text(_OVERLAY, encoding="ascii")


def test_a_variable_of_the_kubelet_is_a_pod(root: Path) -> None:
    assert detect_launcher({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, root) is Launcher.POD


def test_a_file_that_the_kubelet_mounts_is_a_pod(root: Path) -> None:
    """Where the variable was unset."""
    message = (
        "612 540 254:0 /var/lib/kubelet/pods/7f/containers/otel-oom/1a /dev/termination-log rw "
        "- ext4 /dev/root rw\n"
    )
    (root / "proc/self/mountinfo").write_text(_OVERLAY + message, encoding="ascii")
    assert detect_launcher({}, root) is Launcher.POD


@pytest.mark.parametrize("mark", ["run/.containerenv", ".dockerenv"])
def test_a_mark_of_the_runtime_is_a_container(mark: str, root: Path) -> None:
    """With a root directory of its own, whatever its PID namespace."""
    _enter_container(root, mark)
    assert detect_launcher({"INVOCATION_ID": "1"}, root) is Launcher.CONTAINER


def test_a_host_whose_disk_was_an_image_is_no_container(root: Path) -> None:
    """A virtual machine that was made of a container image has the mark, too."""
    (root / ".dockerenv").touch()
    namespace = Path("/proc/self/ns/pid")
    (root / "proc/self/ns").mkdir()
    (root / "proc/self/ns/pid").symlink_to(namespace)
    is_initial = str(namespace.readlink()) == _INITIAL_PID_NS
    expected = Launcher.SHELL if is_initial else Launcher.CONTAINER
    assert detect_launcher({}, root) is expected


def test_a_service_of_systemd_is_a_unit(root: Path) -> None:
    """A program that it starts inherits the variables, with another pid."""
    unit = {"INVOCATION_ID": "0123", "SYSTEMD_EXEC_PID": str(os.getpid())}
    assert detect_launcher(unit, root) is Launcher.UNIT
    assert detect_launcher({"INVOCATION_ID": "0123"}, root) is Launcher.UNIT
    assert detect_launcher({**unit, "SYSTEMD_EXEC_PID": "1"}, root) is Launcher.SHELL
    assert detect_launcher({}, root) is Launcher.SHELL


_ADVICE: tuple[Callable[[], str], ...] = (
    lambda: launcher.grant_capabilities(["SYSLOG"]),
    lambda: launcher.grant_path(Path("/sys/fs/bpf"), writable=True),
    launcher.share_process_ids,
    launcher.leave_user_namespace,
    launcher.lift_seccomp,
    launcher.lift_apparmor,
    launcher.lift_selinux,
    lambda: launcher.protect_from_kill(-999),
    launcher.allow_locked_memory,
)


@pytest.mark.parametrize(
    ("started_by", "begin", "others"),
    [
        (Launcher.POD, "In the manifest: ", ("docker", "podman", "--", "systemd")),
        (Launcher.CONTAINER, "", ("manifest", "systemd")),
        (Launcher.UNIT, "In the unit: ", ("docker", "podman", "manifest", "--")),
        (Launcher.SHELL, "", ("docker", "podman", "manifest", "--cap-add")),
    ],
)
def test_advice_speaks_of_what_the_reader_has(
    started_by: Launcher, begin: str, others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of the manifest, of the unit or of the command, and of nothing else."""
    monkeypatch.setattr(launcher, "current_launcher", lambda: started_by)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for advise in _ADVICE:
        advice = advise()
        assert advice.startswith(begin)
        assert not [word for word in others if word in advice]


def test_added_capabilities_are_of_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes sets no ambient capabilities, so another user has none of them."""
    monkeypatch.setattr(launcher, "current_launcher", lambda: Launcher.POD)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "runAsUser: 0" in launcher.grant_capabilities(["BPF"])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "runAsUser" not in launcher.grant_capabilities(["BPF"])
