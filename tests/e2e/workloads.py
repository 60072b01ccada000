"""A kill in each kind of place, with the attributes that its runtime or service manager implies.

A victim waits until these are known. The fixtures that start the runtimes remove everything.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.testlib.containers.containerd import Containerd
from tests.testlib.containers.docker import Docker
from tests.testlib.containers.image import FILL_MEMORY, KILLED_EXIT_CODE, OPEN_GATE
from tests.testlib.containers.podman import Podman
from tests.testlib.kernel.cgroups import nested_memcg
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.kernel.systemd import Systemd
from tests.testlib.wait import wait_until

KEEP_MEMORY: Final = (
    "mkfifo {pipe}; (head -c 1 >/dev/null; echo full; exec sleep 1000) < {pipe} & "
    "exec dd if=/dev/zero of={pipe} bs=20M"
)
"""It keeps 20 MiB, since nobody reads all of them, and prints a word once it has them."""

LARGE_BYTES: Final = 20 << 20
OWN_LIMIT: Final = 24 << 20
SHARED_LIMIT: Final = 32 << 20
"""The limit of the large and the greedy process together: the large one is killed."""

_LIMIT_S: Final = 30.0


@dataclass(frozen=True)
class Expected:
    """The expected attributes of a kill, by OpenTelemetry's names.

    ``only`` selects it in LogsQL among the kills of the ``service``. ``limit`` is the one reached.
    ``setting`` is how its owner changes it. ``trigger`` is expected only of a trigger that is
    somewhere else than the victim.
    """

    service: str
    resource: Mapping[str, Any] = field(default_factory=dict)
    victim: Mapping[str, Any] = field(default_factory=dict)
    limit: Mapping[str, Any] = field(default_factory=dict)
    trigger: Mapping[str, Any] = field(default_factory=dict)
    only: str = ""
    setting: str = ""


def kill_in_podman(runtime: Podman) -> Expected:
    """Exceed the limit of a container of podman."""
    inspected = runtime.run_until_killed("shop-web")
    return Expected(
        service=inspected["Name"],
        resource={
            **_container_attributes(
                "podman", inspected["Id"], inspected["Name"], inspected["ImageName"]
            ),
            "container.image.id": inspected["Image"],
        },
        victim={
            "process.pid": inspected["State"]["Pid"],
            "oom.victim.memcg.path": inspected["State"]["CgroupPath"],
        },
        limit={
            "oom.limit.memcg.limit": inspected["HostConfig"]["Memory"],
            "oom.limit.scope": "own",
        },
        setting=f"--memory of container {inspected['Name']}",
    )


def kill_in_docker(runtime: Docker) -> Expected:
    """Exceed the limit of a container of Docker."""
    inspected = runtime.run_until_killed("shop-api")
    name = inspected["Name"].removeprefix("/")
    return Expected(
        service=name,
        resource={
            **_container_attributes("docker", inspected["Id"], name, inspected["Config"]["Image"]),
            "container.image.id": inspected["Image"],
            "container.runtime.version": runtime.version(),
        },
        victim={
            "process.pid": inspected["State"]["Pid"],
        },
        limit={
            "oom.limit.memcg.limit": inspected["HostConfig"]["Memory"],
            "oom.limit.scope": "own",
        },
        setting=f"--memory of container {name}",
    )


def kill_in_pod(runtime: Containerd, stack: ExitStack) -> Expected:
    """Allocate in one container of a pod, until the larger one is killed."""
    uid = str(uuid.uuid4())
    # As the kubelet has it for a pod that may use more than it is promised.
    cgroup = f"/kubepods/burstable/pod{uid}"
    stack.enter_context(nested_memcg(cgroup, SHARED_LIMIT))
    pod = runtime.start_pod("shop-7d9f", "prod", uid, cgroup)
    stack.callback(runtime.remove, pod)
    large = runtime.start(pod, "cache", KEEP_MEMORY.format(pipe="/pipe"), memory=None)
    wait_until(lambda: "full" in runtime.crictl("logs", large), "its memory", limit=_LIMIT_S)
    greedy = runtime.start(pod, "web", FILL_MEMORY, memory=None)
    victim, trigger = runtime.inspect(large), runtime.inspect(greedy)
    runtime.run_in(greedy, OPEN_GATE)
    assert runtime.wait(large) == runtime.wait(greedy) == KILLED_EXIT_CODE
    sandbox = runtime.inspect_pod(pod)["status"]["metadata"]
    status, trigger_status = victim["status"], trigger["status"]
    name = status["metadata"]["name"]
    return Expected(
        service=sandbox["name"],
        only=f'k8s.container.name:="{name}"',
        resource={
            **_container_attributes("containerd", status["id"], name, status["image"]["image"]),
            "k8s.pod.name": sandbox["name"],
            "k8s.pod.uid": sandbox["uid"],
            "k8s.namespace.name": sandbox["namespace"],
            "k8s.container.name": name,
            "service.namespace": sandbox["namespace"],
        },
        victim={
            "process.pid": victim["info"]["pid"],
            "oom.victim.memcg.path": victim["info"]["runtimeSpec"]["linux"]["cgroupsPath"],
            "oom.victim.pod.qos_class": "Burstable",
        },
        limit={
            "oom.limit.scope": "pod",
            "oom.limit.memcg.path": cgroup,
            "oom.limit.memcg.limit": SHARED_LIMIT,
        },
        setting=(
            f"resources.limits.memory of the containers of pod {sandbox['name']} in namespace "
            f"{sandbox['namespace']}"
        ),
        trigger={
            "oom.trigger.pid": trigger["info"]["pid"],
            "oom.trigger.memcg.path": trigger["info"]["runtimeSpec"]["linux"]["cgroupsPath"],
            "oom.trigger.container.id": trigger_status["id"],
            "oom.trigger.container.name": trigger_status["metadata"]["name"],
            "oom.trigger.pod.uid": sandbox["uid"],
        },
    )


def kill_in_unit(manager: Systemd) -> Expected:
    """Exceed the limit of a unit of systemd."""
    name, gate = "shop-search", manager.process.folder / "gate"
    manager.run(name, FILL_MEMORY.replace("/gate", str(gate)), f"MemoryMax={OWN_LIMIT}")
    inspected = manager.show(name)
    _open(gate)
    assert manager.wait(name) == signal.SIGKILL
    return Expected(
        service=inspected["Id"].removesuffix(".service"),
        victim={
            "process.vpid": int(inspected["MainPID"]),
            "oom.victim.systemd.unit": inspected["Id"],
            "oom.victim.systemd.slice": inspected["Slice"],
            "oom.victim.memcg.path": inspected["ControlGroup"],
        },
        limit={
            "oom.limit.scope": "own",
            "oom.limit.memcg.limit": int(inspected["MemoryMax"]),
            "oom.limit.systemd.unit": inspected["Id"],
            "oom.limit.systemd.setting": f"MemoryMax={inspected['MemoryMax']}",
            "oom.limit.systemd.file": inspected["FragmentPath"],
        },
        setting=f"MemoryMax= of {inspected['Id']}, set in {inspected['FragmentPath']}",
    )


def kill_in_slice(manager: Systemd) -> Expected:
    """Allocate in one unit of a slice, until the larger one is killed."""
    slice_, large, greedy = "system-shop.slice", "shop-cache", "shop-batch"
    pipe, gate = (manager.process.folder / name for name in ("pipe", "gate-of-slice"))
    manager.systemctl("set-property", "--runtime", slice_, f"MemoryMax={SHARED_LIMIT}")
    manager.run(large, KEEP_MEMORY.format(pipe=pipe), f"Slice={slice_}")
    wait_until(
        lambda: int(manager.show(large)["MemoryCurrent"]) > LARGE_BYTES,
        "its memory",
        limit=_LIMIT_S,
    )
    manager.run(greedy, FILL_MEMORY.replace("/gate", str(gate)), f"Slice={slice_}")
    victim, trigger = manager.show(large), manager.show(greedy)
    _open(gate)
    assert manager.wait(large) == manager.wait(greedy) == signal.SIGKILL
    return Expected(
        service=victim["Id"].removesuffix(".service"),
        victim={
            "process.vpid": int(victim["MainPID"]),
            "oom.victim.systemd.unit": victim["Id"],
            "oom.victim.systemd.slice": victim["Slice"],
            "oom.victim.memcg.path": victim["ControlGroup"],
        },
        limit={
            "oom.limit.scope": "ancestor",
            "oom.limit.memcg.limit": SHARED_LIMIT,
            "oom.limit.systemd.unit": victim["Slice"],
        },
        setting=f"MemoryMax= of {victim['Slice']}",
        trigger={
            "oom.trigger.comm": "tail",
            "oom.trigger.memcg.path": trigger["ControlGroup"],
            "oom.trigger.systemd.unit": trigger["Id"],
        },
    )


def kill_outside(folder: Path, stack: ExitStack) -> Expected:
    """Exceed the limit of a plain cgroup, which no runtime knows."""
    program = folder / "stocktaking"
    shutil.copy("/usr/bin/tail", program)
    memcg = stack.enter_context(own_memcg(OWN_LIMIT))
    with subprocess.Popen([*cgroup_prefix(memcg), program, "/dev/zero"]) as process:
        assert process.wait(_LIMIT_S) == -signal.SIGKILL
    return Expected(
        service=program.name,
        victim={
            "process.pid": process.pid,
            "process.executable.path": str(program),
            "oom.victim.memcg.path": memcg.path,
        },
        limit={
            "oom.limit.memcg.limit": OWN_LIMIT,
            "oom.limit.scope": "own",
        },
    )


def _container_attributes(runtime: str, container_id: str, name: str, image: str) -> dict[str, Any]:
    image_name, _, tag = image.rpartition(":")
    return {
        "container.id": container_id,
        "container.name": name,
        "container.runtime.name": runtime,
        "container.image.name": image_name,
        "container.image.tags": [tag],
    }


def _open(gate: Path) -> None:
    """Open a FIFO for the process that waits at it."""
    wait_until(gate.exists, "somebody who waits", limit=_LIMIT_S)
    gate.write_text("go\n", encoding="ascii")
