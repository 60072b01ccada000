"""A kill in each kind of place, and what must be told of it by the word of who runs the place.

A victim waits until its runtime has said what there is to say of it. Nothing is removed: that is
for the fixtures that started the runtimes.
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

LARGE: Final = (
    "mkfifo {pipe}; (head -c 1 >/dev/null; echo full; exec sleep 1000) < {pipe} & "
    "exec dd if=/dev/zero of={pipe} bs=20M"
)
"""It keeps 20 MiB, for nobody takes all of them, and says when it has them."""

HELD: Final = 20 << 20
OWN: Final = 24 << 20
SHARED: Final = 32 << 20
"""What the large and the greedy one may have together: it is the large one that is killed."""

_LIMIT_S: Final = 30.0


@dataclass(frozen=True)
class Expected:
    """What is to be told of a kill, by the names of OpenTelemetry's data model.

    ``only`` selects it in LogsQL among all that stand under the name of the ``service``.
    ``limit`` is what was hit. ``trigger`` is told of a trigger that is somewhere else than the
    victim, and only then.
    """

    service: str
    resource: Mapping[str, Any] = field(default_factory=dict)
    victim: Mapping[str, Any] = field(default_factory=dict)
    limit: Mapping[str, Any] = field(default_factory=dict)
    trigger: Mapping[str, Any] = field(default_factory=dict)
    only: str = ""


def in_podman(runtime: Podman) -> Expected:
    """A container of podman's exceeds its limit."""
    said = runtime.run_until_killed("shop-web")
    return Expected(
        service=said["Name"],
        resource={
            **_of_container("podman", said["Id"], said["Name"], said["ImageName"]),
            "container.image.id": said["Image"],
        },
        victim={
            "process.pid": said["State"]["Pid"],
            "oom.victim.memcg.path": said["State"]["CgroupPath"],
        },
        limit={
            "oom.limit.memcg.limit": said["HostConfig"]["Memory"],
            "oom.limit.scope": "own",
        },
    )


def in_docker(runtime: Docker) -> Expected:
    """A container of Docker's exceeds its limit."""
    said = runtime.run_until_killed("shop-api")
    name = said["Name"].removeprefix("/")
    return Expected(
        service=name,
        resource={
            **_of_container("docker", said["Id"], name, said["Config"]["Image"]),
            "container.image.id": said["Image"],
            "container.runtime.version": runtime.version(),
        },
        victim={
            "process.pid": said["State"]["Pid"],
        },
        limit={
            "oom.limit.memcg.limit": said["HostConfig"]["Memory"],
            "oom.limit.scope": "own",
        },
    )


def in_pod(runtime: Containerd, stack: ExitStack) -> Expected:
    """In a pod of Kubernetes', one container asks for the memory that the larger one has."""
    uid = str(uuid.uuid4())
    # As the kubelet has it for a pod that may use more than it is promised.
    cgroup = f"/kubepods/burstable/pod{uid}"
    stack.enter_context(nested_memcg(cgroup, SHARED))
    pod = runtime.start_pod("shop-7d9f", "prod", uid, cgroup)
    stack.callback(runtime.remove, pod)
    large = runtime.start(pod, "cache", LARGE.format(pipe="/pipe"), memory=None)
    wait_until(lambda: "full" in runtime.crictl("logs", large), "its memory", limit=_LIMIT_S)
    greedy = runtime.start(pod, "web", FILL_MEMORY, memory=None)
    victim, trigger = runtime.inspect(large), runtime.inspect(greedy)
    runtime.run_in(greedy, OPEN_GATE)
    assert runtime.wait(large) == runtime.wait(greedy) == KILLED_EXIT_CODE
    sandbox = runtime.inspect_pod(pod)["status"]["metadata"]
    status, of_trigger = victim["status"], trigger["status"]
    name = status["metadata"]["name"]
    return Expected(
        service=sandbox["name"],
        only=f'k8s.container.name:="{name}"',
        resource={
            **_of_container("containerd", status["id"], name, status["image"]["image"]),
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
            "oom.limit.memcg.limit": SHARED,
        },
        trigger={
            "oom.trigger.pid": trigger["info"]["pid"],
            "oom.trigger.memcg.path": trigger["info"]["runtimeSpec"]["linux"]["cgroupsPath"],
            "oom.trigger.container.id": of_trigger["id"],
            "oom.trigger.container.name": of_trigger["metadata"]["name"],
            "oom.trigger.pod.uid": sandbox["uid"],
        },
    )


def in_unit(manager: Systemd) -> Expected:
    """A unit of systemd's exceeds its limit."""
    name, gate = "shop-search", manager.process.folder / "gate"
    manager.run(name, FILL_MEMORY.replace("/gate", str(gate)), f"MemoryMax={OWN}")
    said = manager.show(name)
    _open(gate)
    assert manager.wait(name) == signal.SIGKILL
    return Expected(
        service=said["Id"].removesuffix(".service"),
        victim={
            "process.vpid": int(said["MainPID"]),
            "oom.victim.systemd.unit": said["Id"],
            "oom.victim.systemd.slice": said["Slice"],
            "oom.victim.memcg.path": said["ControlGroup"],
        },
        limit={
            "oom.limit.scope": "own",
            "oom.limit.memcg.limit": int(said["MemoryMax"]),
            "oom.limit.systemd.unit": said["Id"],
            "oom.limit.systemd.setting": f"MemoryMax={said['MemoryMax']}",
            "oom.limit.systemd.file": said["FragmentPath"],
        },
    )


def in_slice(manager: Systemd) -> Expected:
    """In a slice of systemd's, one unit asks for the memory that the larger one has."""
    slice_, large, greedy = "system-shop.slice", "shop-cache", "shop-batch"
    pipe, gate = (manager.process.folder / name for name in ("pipe", "gate-of-slice"))
    manager.systemctl("set-property", "--runtime", slice_, f"MemoryMax={SHARED}")
    manager.run(large, LARGE.format(pipe=pipe), f"Slice={slice_}")
    wait_until(
        lambda: int(manager.show(large)["MemoryCurrent"]) > HELD, "its memory", limit=_LIMIT_S
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
            "oom.limit.memcg.limit": SHARED,
            "oom.limit.systemd.unit": victim["Slice"],
        },
        trigger={
            "oom.trigger.comm": "tail",
            "oom.trigger.memcg.path": trigger["ControlGroup"],
            "oom.trigger.systemd.unit": trigger["Id"],
        },
    )


def alone(folder: Path, stack: ExitStack) -> Expected:
    """A plain process exceeds the limit of its cgroup, which nobody has told of."""
    program = folder / "stocktaking"
    shutil.copy("/usr/bin/tail", program)
    memcg = stack.enter_context(own_memcg(OWN))
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
            "oom.limit.memcg.limit": OWN,
            "oom.limit.scope": "own",
        },
    )


def _of_container(runtime: str, container_id: str, name: str, image: str) -> dict[str, Any]:
    image_name, _, tag = image.rpartition(":")
    return {
        "container.id": container_id,
        "container.name": name,
        "container.runtime.name": runtime,
        "container.image.name": image_name,
        "container.image.tags": [tag],
    }


def _open(gate: Path) -> None:
    """Let who waits at a FIFO go on."""
    wait_until(gate.exists, "somebody who waits", limit=_LIMIT_S)
    gate.write_text("go\n", encoding="ascii")
