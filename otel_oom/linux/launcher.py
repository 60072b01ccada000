"""What started this process, and how that grants a right: the texts of all advice about rights."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs
from otel_oom.linux.process_lookup import ProcessLookup

_MOUNTINFO_BYTES: Final = 1 << 18
_POD_MOUNT: Final = "/dev/termination-log"
"""The kubelet mounts this file into each container."""
_SERVICE_HOST: Final = "KUBERNETES_SERVICE_HOST"
"""The kubelet sets this variable in each container (pkg/kubelet/envvars)."""
_MARKS: Final = ("run/.containerenv", ".dockerenv")
"""Files that podman and Docker create in a container; a host's own image can have them too."""


class Launcher(Enum):
    """The kind of file or command that gives this process its rights."""

    POD = "the manifest"
    CONTAINER = "the run command"
    UNIT = "the unit"
    SHELL = "a shell"

    @property
    def in_container(self) -> bool:
        """Whether mounts of the host must be handed in."""
        return self in {Launcher.POD, Launcher.CONTAINER}


@cache
def current_launcher() -> Launcher:
    """Return what started this process."""
    return detect_launcher(os.environ, Path("/"))


def detect_launcher(environ: Mapping[str, str], root: Path) -> Launcher:
    """Return what started a process with these variables and this root directory."""
    if _SERVICE_HOST in environ or _is_mounted(root, _POD_MOUNT):
        return Launcher.POD
    if any((root / mark).exists() for mark in _MARKS) and not _is_root_of_host(root / "proc"):
        return Launcher.CONTAINER
    # The manager's own variable; a program that a service starts has it too, with another pid.
    if "INVOCATION_ID" in environ and environ.get("SYSTEMD_EXEC_PID") in {None, str(os.getpid())}:
        return Launcher.UNIT
    return Launcher.SHELL


def _is_mounted(root: Path, path: str) -> bool:
    return bool(_find_mount(root / "proc/self/mountinfo", path))


def _is_root_of_host(proc: Path) -> bool:
    """Return whether the root directory of this process is that of the host's init."""
    roots = [_find_mount(proc / pid / "mountinfo", "/") for pid in ("self", "1")]
    return ProcessLookup(proc).usable and roots[0] == roots[1] != []


def _find_mount(mountinfo: Path, path: str) -> list[str]:
    """Return device and root of what is mounted at ``path``; empty if nothing is."""
    lines = [line.split(" ", 5) for line in procfs.read_lines(mountinfo, _MOUNTINFO_BYTES)]
    return next((fields[2:4] for fields in reversed(lines) if fields[4:5] == [path]), [])


def grant_capabilities(names: Iterable[str]) -> str:
    """Return how to grant capabilities, by their names without ``CAP_``."""
    names = list(names)
    of_root = "" if os.geteuid() == 0 else _AS_ROOT[current_launcher()]
    prefixed = [f"CAP_{name}" for name in names]
    return {
        Launcher.POD: f"In the manifest: securityContext: {{capabilities: {{add: "
        f"[{', '.join(names)}]}}{of_root}}}",
        Launcher.CONTAINER: f"Add to the run command: "
        f"{' '.join(f'--cap-add={name}' for name in names)}{of_root}{_for_old_docker(names)}",
        Launcher.UNIT: f"In the unit: AmbientCapabilities={' '.join(prefixed)} "
        "(CapabilityBoundingSet= must allow them)",
        Launcher.SHELL: f"Run it as root (sudo), or give it the "
        f"{'capability' if len(names) == 1 else 'capabilities'} {' and '.join(prefixed)} "
        f"(systemd: AmbientCapabilities={' '.join(prefixed)})",
    }[current_launcher()]


def _for_old_docker(names: list[str]) -> str:
    return " (an old Docker: --cap-add=SYS_ADMIN)" if {"BPF", "PERFMON"} & {*names} else ""


_AS_ROOT: Final = {
    Launcher.POD: ", runAsUser: 0",
    Launcher.CONTAINER: " --user=0",
    Launcher.UNIT: "",
    Launcher.SHELL: "",
}
"""Kubernetes and Docker give added capabilities to root alone."""


def grant_path(path: Path, *, writable: bool = False) -> str:
    """Return how to give access to a path of the host."""
    name = path.name or "root"
    mount = f"{{name: {name}, mountPath: {path}{'' if writable else ', readOnly: true'}}}"
    return {
        Launcher.POD: f"In the manifest: volumes: [{{name: {name}, hostPath: {{path: {path}}}}}] "
        f"and volumeMounts: [{mount}]",
        Launcher.CONTAINER: "Add to the run command: "
        f"--volume={shlex.quote(f'{path}:{path}')}{'' if writable else ':ro'}",
        Launcher.UNIT: f"In the unit: {'ReadWritePaths' if writable else 'BindReadOnlyPaths'}="
        f"{path}",
        Launcher.SHELL: f"Allow this user to {'write to' if writable else 'read'} {path}",
    }[current_launcher()]


def grant_device(path: Path) -> str:
    """Return how to give access to a device of the host, for reading."""
    return {
        # The kubelet allows devices to privileged containers, and to those of device plugins.
        Launcher.POD: "In the manifest: securityContext: {privileged: true}",
        Launcher.CONTAINER: f"Add to the run command: --device={path}:{path}:r",
        Launcher.UNIT: f"In the unit: DeviceAllow={path} r",
        Launcher.SHELL: f"Allow this user to read {path}",
    }[current_launcher()]


def share_process_ids() -> str:
    """Return how to get the process ids of the host."""
    return {
        Launcher.POD: "In the manifest: hostPID: true",
        Launcher.CONTAINER: "Add to the run command: --pid=host",
        Launcher.UNIT: "In the unit: PrivatePIDs=no",
        Launcher.SHELL: "Run it on the host",
    }[current_launcher()]


def leave_user_namespace() -> str:
    """Return how to get capabilities of the host, and not of a user namespace."""
    return {
        Launcher.POD: "In the manifest: hostUsers: true",
        Launcher.CONTAINER: "Run the container by root, with --userns=host in the run command",
        Launcher.UNIT: "In the unit: PrivateUsers=no",
        Launcher.SHELL: "Leave the user namespace: run it on the host",
    }[current_launcher()]


def lift_seccomp() -> str:
    """Return how to allow the system calls of BPF."""
    return {
        Launcher.POD: "In the manifest: securityContext: {seccompProfile: {type: Unconfined}}, or "
        "type: Localhost with a profile that allows bpf and perf_event_open",
        Launcher.CONTAINER: "Add to the run command: --security-opt=seccomp=unconfined, or a "
        "profile that allows bpf and perf_event_open",
        Launcher.UNIT: "In the unit: SystemCallFilter=@system-service bpf perf_event_open",
        Launcher.SHELL: "Run it outside of the filter: on the host, or in another shell",
    }[current_launcher()]


def lift_apparmor() -> str:
    """Return how to be free of AppArmor's profile."""
    return {
        Launcher.POD: "In the manifest: securityContext: {appArmorProfile: {type: Unconfined}} "
        "(before Kubernetes 1.30 by annotation: container.apparmor.security.beta.kubernetes.io/"
        "CONTAINER: unconfined)",
        Launcher.CONTAINER: "Add to the run command: --security-opt=apparmor=unconfined",
        Launcher.UNIT: "In the unit: AppArmorProfile=unconfined",
        Launcher.SHELL: "Change the profile of this program: aa-status",
    }[current_launcher()]


def lift_selinux() -> str:
    """Return how to get a type of SELinux that may use BPF."""
    return {
        Launcher.POD: "In the manifest: securityContext: {seLinuxOptions: {type: spc_t}}",
        Launcher.CONTAINER: "Add to the run command: --security-opt=label=type:spc_t",
        Launcher.UNIT: "In the unit: SELinuxContext= of a domain that may use BPF",
        Launcher.SHELL: "Run it in a domain that may use BPF",
    }[current_launcher()]


def protect_from_kill(oom_score_adj: int) -> str:
    """Return how to have the kernel choose nearly all other processes first."""
    return {
        Launcher.POD: "In the manifest: priorityClassName: system-node-critical",
        Launcher.CONTAINER: f"Add to the run command: --oom-score-adj={oom_score_adj}",
        Launcher.UNIT: f"In the unit: OOMScoreAdjust={oom_score_adj}",
        Launcher.SHELL: "Run it as root (sudo), or give it the capability CAP_SYS_RESOURCE",
    }[current_launcher()]


def allow_locked_memory() -> str:
    """Return how to lock the memory of this process."""
    return {
        Launcher.POD: "In the manifest: securityContext: {capabilities: {add: [IPC_LOCK]}}",
        Launcher.CONTAINER: "Add to the run command: --ulimit=memlock=-1:-1",
        Launcher.UNIT: "In the unit: LimitMEMLOCK=infinity",
        Launcher.SHELL: "Run it as root (sudo), or give it the capability CAP_IPC_LOCK",
    }[current_launcher()]
