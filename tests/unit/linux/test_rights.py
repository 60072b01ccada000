"""Rights that a process lacks, from the files of a /proc that is written here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otel_oom.linux import launcher, rights
from otel_oom.linux.launcher import Launcher
from otel_oom.linux.rights import explain_refusal, find_missing_rights


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a /proc in which a process in a pod has all rights but the PID namespace."""
    monkeypatch.setattr(launcher, "current_launcher", lambda: Launcher.POD)
    monkeypatch.setattr(rights, "missing_capabilities", lambda _: [])
    monkeypatch.setattr(rights, "is_bpf_filtered", lambda: False)
    (tmp_path / "self/attr").mkdir(parents=True)
    (tmp_path / "self/uid_map").write_text("         0          0 4294967295\n", encoding="ascii")
    (tmp_path / "self/ns").mkdir()
    (tmp_path / "self/ns/pid").symlink_to("/proc/self/ns/pid")
    return tmp_path


def _label(proc: Path, label: str) -> None:
    (proc / "self/attr/current").write_text(label, encoding="ascii")


def _names(proc: Path) -> set[str]:
    return {right.name for right in find_missing_rights(proc)} - {"process ids of the host"}


def test_no_right_is_missing(proc: Path) -> None:
    _label(proc, "unconfined\n")
    assert _names(proc) == set()


def test_a_user_namespace_is_named(proc: Path) -> None:
    """Its capabilities are none of the host's."""
    (proc / "self/uid_map").write_text("0 100000 65536\n", encoding="ascii")
    (right,) = (each for each in find_missing_rights(proc) if each.name == "user namespace")
    assert right.advice == "In the manifest: hostUsers: true"


def test_apparmor_is_named_where_it_refuses(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence has the profile and what is missing; under complain nothing is refused."""
    _label(proc, "cri-containerd.apparmor.d (enforce)\n")
    monkeypatch.setattr(rights, "can_read_other_processes", lambda _: False)
    monkeypatch.setattr(rights, "find_write_error", lambda _: PermissionError(13, "denied"))
    (right,) = (each for each in find_missing_rights(proc) if each.name == "AppArmor")
    assert right.loss == (
        "profile cri-containerd.apparmor.d refuses writes below /sys/fs/bpf and /proc of other "
        "processes: kills while no agent runs are in the kernel log alone; executable, "
        "environment and user stack of victims are missing"
    )
    assert "appArmorProfile: {type: Unconfined}" in right.advice
    monkeypatch.setattr(rights, "can_read_other_processes", lambda _: True)
    monkeypatch.setattr(rights, "find_write_error", lambda _: None)
    assert _names(proc) == set()
    _label(proc, "cri-containerd.apparmor.d (complain)\n")
    monkeypatch.setattr(rights, "can_read_other_processes", lambda _: False)
    assert _names(proc) == set()


def test_selinux_is_named(proc: Path) -> None:
    _label(proc, "system_u:system_r:container_t:s0:c4,c7\0")
    (right,) = (each for each in find_missing_rights(proc) if each.name == "SELinux")
    assert "seLinuxOptions: {type: spc_t}" in right.advice
    _label(proc, "system_u:system_r:spc_t:s0\0")
    assert _names(proc) == set()


def test_a_refused_write_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the profile of AppArmor if there is one, else by the mount."""
    monkeypatch.setattr(launcher, "current_launcher", lambda: Launcher.POD)
    denied, path = PermissionError(13, os.strerror(13)), Path("/sys/fs/bpf")
    monkeypatch.setattr(rights, "read_apparmor_profile", lambda: "docker-default")
    explained = explain_refusal(denied, path)
    assert explained.startswith("AppArmor's profile docker-default refuses it. In the manifest: ")
    monkeypatch.setattr(rights, "read_apparmor_profile", lambda: None)
    assert "hostPath: {path: /sys/fs/bpf}" in explain_refusal(denied, path)
    assert "hostPath" in explain_refusal(OSError(30, os.strerror(30)), path)
    assert explain_refusal(OSError(28, os.strerror(28)), path) == ""
