"""A hostile tenant beside a quiet one: what each can do to the other by its kills.

The quiet tenant is a container that is killed now and then. The hostile one does everything at
once: it is killed a hundred times a second under false names, its files are as slow to read as it
can make them, and an unprivileged user poses as the runtime of the quiet container.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

from otel_oom.linux.elf import MAX_SEGMENTS
from otel_oom.linux.temporary_cgroup import Cgroup
from tests.fault_injection.tenant_backend import TenantBackend
from tests.fault_injection.trial import RunningAgent, Trial
from tests.testlib.containers.podman import Podman, run_podman
from tests.testlib.hostile_elf import many_notes
from tests.testlib.kernel.cgroups import nested_memcg
from tests.testlib.kernel.memcg import cgroup_prefix, own_memcg
from tests.testlib.kernel.oracle import read_oom_kill_count
from tests.testlib.wait import wait_until
from tests.vmtest.programs import program_path

LASTS_S: Final = 300.0
LASTS_SHORT_S: Final = 20.0
ARRIVES_S: Final = 2.0
ARRIVES_SHORT_S: Final = 20.0
"""Beside other tests a machine may be too busy for a bound in seconds to say much."""

_RATE: Final = 100
_QUIET_EVERY_S: Final = 2.0
_FORGED_EVERY_S: Final = 1.0
_AGENT_BYTES: Final = 128 << 20
"""MemoryMax of deploy/systemd/otel-oom.service, and the limit of the DaemonSet."""
_WATCHDOG_S: Final = 20.0
_SETTLES_S: Final = 60.0

_NOBODY: Final = 65534
_AS_NOBODY: Final = ("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
_LIBRARIES: Final = 2048
_INODES: Final = 128
_BIG_JSON_BYTES: Final = 4 << 20

_QUIET: Final = "quiet-db"
_HOSTILE: Final = "hostile"
_WAIT_FOR_WORK: Final = "mkfifo /gate; while read _ < /gate; do tail /dev/zero; done"
"""Each line of the gate is a child process that is killed; the shell stays."""


def attack_a_quiet_tenant(trial: Trial, *, short: bool) -> None:
    """Let a hostile tenant do everything at once, and check what arrives of a quiet one."""
    backend = TenantBackend()
    trial.backend.received = backend
    trial.install()
    with ExitStack() as stack:
        podman = stack.enter_context(run_podman())
        limit = stack.enter_context(own_memcg(_AGENT_BYTES))
        watchdog = stack.enter_context(_Watchdog.open(trial.folder))
        agent = stack.enter_context(
            trial.run_agent(prefix=cgroup_prefix(limit), environ=watchdog.environ)
        )
        agent.wait_for_log("Watching for containers")
        podman.run(_QUIET, _WAIT_FOR_WORK, "--detach", "--memory=24m")
        quiet_id = podman.inspect(_QUIET)["Id"]
        backend.watch(quiet_id)
        _kill_quiet(podman)
        wait_until(lambda: len(backend.quiet()) == 1, "the first kill of the quiet one", limit=60)
        counted, began_s = read_oom_kill_count(), time.monotonic()
        with _hostile_tenant(trial, podman, quiet_id):
            kills = 1 + _kill_quiet_until(
                podman, time.monotonic() + (LASTS_SHORT_S if short else LASTS_S)
            )
            ended_s = time.monotonic()
            wait_until(
                lambda: min(len(backend.quiet()), len(backend.quiet_spans())) >= kills,
                f"logs and spans of {kills} kills of the quiet one",
                limit=_SETTLES_S,
            )
        assert not backend.crossings, [
            (record.attributes.get("process.executable.name"), record.resource)
            for record in backend.crossings[:3]
        ]
        _check_quiet(backend, kills, ARRIVES_SHORT_S if short else ARRIVES_S)
        _check_agent(agent, watchdog)
        rate = (read_oom_kill_count() - counted) / (ended_s - began_s)
        assert short or rate > _RATE / 2, f"the hostile tenant made {rate:.0f} kills a second only"
        backend.wait_until_silent()
        assert not backend.crossings, [
            (record.attributes.get("process.executable.name"), record.resource)
            for record in backend.crossings[:3]
        ]
        assert agent.stop(signal.SIGTERM) == 0, agent.log_text()
    assert backend.hostile_count, "the hostile tenant's kills did not arrive at all"


def _check_quiet(backend: TenantBackend, kills: int, within_s: float) -> None:
    """Check that each kill arrived once, in time, with what the first one had."""
    logs = {log.uid: log for log in backend.quiet()}
    assert len(logs) == kills, f"{len(logs)} kills of {kills} arrived"
    first, *others = sorted(logs.values(), key=lambda log: int(log.item.time_unix_nano))
    for log in others:
        assert log.resource == first.resource
        missing = first.attributes.keys() - log.attributes.keys() - _READ_WHILE_VICTIM_DIES
        if "oom.decision.source" not in log.attributes:
            missing = {name for name in missing if not name.startswith(_OF_REPORT)}
        if log.item.dropped_attributes_count:
            missing = {name for name in missing if not name.startswith(_DROPPED_FIRST)}
        assert not missing, f"without {missing}"
    late = {uid: delay for uid, delay in backend.quiet_delays_s().items() if delay > within_s}
    assert not late, f"later than {within_s:g} s: {late}"


_OF_REPORT: Final = (
    *(
        "oom.decision.",
        "oom.limit.",
        "oom.request.order",
        "oom.request.gfp_",
        "oom.advice",
        "oom.cause.",
        "oom.growth.",
    ),
    "log.record.original",
)
"""What the kernel log alone has where no hook reports decisions.

The kernel prints ten reports in five seconds, for all tenants together (``oom_kill_process()``).
"""
_DROPPED_FIRST: Final = ("oom.host.sysctl.", "oom.host.pressure.")
"""What a record has no place for that has all else: a backend accepts so many attributes."""
_READ_WHILE_VICTIM_DIES: Final = {"process.linux.cgroup"}


def _check_agent(agent: RunningAgent, watchdog: _Watchdog) -> None:
    assert agent.process.poll() is None, agent.log_text()[-4000:]
    assert watchdog.longest_gap_s() < _WATCHDOG_S, watchdog.longest_gap_s()


def _kill_quiet(podman: Podman) -> None:
    podman.run_in(_QUIET, "echo > /gate")


def _kill_quiet_until(podman: Podman, end_s: float) -> int:
    count = 0
    while time.monotonic() < end_s:
        _kill_quiet(podman)
        count += 1
        time.sleep(_QUIET_EVERY_S)
    return count


@contextmanager
def _hostile_tenant(trial: Trial, podman: Podman, quiet_id: str) -> Iterator[None]:
    """Run all attacks at once."""
    with ExitStack() as stack:
        stack.enter_context(_pose_as_runtime(trial.folder, quiet_id))
        forged = f"/user.slice/user-{_NOBODY}.slice/user@{_NOBODY}.service/{_HOSTILE}"
        path = f"{forged}/cri-containerd-{quiet_id}.scope"
        stack.enter_context(nested_memcg(path, 16 << 20))
        stack.enter_context(trial.storm.kill_continuously(Cgroup(path), _FORGED_EVERY_S))
        own = make_hostile_files(trial.folder / "tenant")
        options = (f"--volume={own / 'bin'}:/t:ro", f"--volume={own / 'lib'}:/usr/lib:ro")
        podman.run(
            _HOSTILE,
            f"exec /t/hostile_tenant {_RATE}",
            *("--detach", "--memory=48m", *options),
        )
        time.sleep(1.0)
        # Its program is not at its path any more: what is there costs time, and does not fit.
        (own / "bin/hostile_tenant").unlink()
        os.link(own / "lib/lib0.so", own / "bin/hostile_tenant")
        try:
            yield
        finally:
            logs = podman.logs(_HOSTILE)
            podman.remove(_HOSTILE)
            assert not logs, logs


def make_hostile_files(folder: Path) -> Path:
    """Make the program of the hostile tenant, and libraries that are slow to read."""
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    program = folder / "bin/hostile_tenant"
    program.write_bytes(program_path("hostile_tenant").read_bytes())
    program.chmod(0o755)
    for number in range(_LIBRARIES):
        library = folder / f"lib/lib{number}.so"
        if number < _INODES:
            # Beyond the bound on segments, and at it.
            library.write_bytes(many_notes() if number % 2 else many_notes(MAX_SEGMENTS))
        else:
            os.link(folder / f"lib/lib{number % _INODES}.so", library)
    (folder / "lib/link.so").symlink_to("/dev/tty")
    os.mkfifo(folder / "lib/fifo.so")
    return folder


@contextmanager
def _pose_as_runtime(folder: Path, quiet_id: str) -> Iterator[None]:
    """Run conmons of an unprivileged user, for the quiet container and for one of its own.

    The first claims to have the quiet container's bundle; that of the second is too large.
    """
    home = folder / "nobody"
    home.mkdir()
    conmon = home / "conmon"
    conmon.write_bytes(program_path("hostile_tenant").read_bytes())
    conmon.chmod(0o755)
    annotations = {
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.Name": "coredns",
        "io.kubernetes.pod.name": "coredns",
        "io.kubernetes.pod.namespace": "kube-system",
        "io.kubernetes.container.name": "coredns",
    }
    own_id = "ab" * 32
    with ExitStack() as stack:
        for container_id, padding in ((quiet_id, 0), (own_id, _BIG_JSON_BYTES)):
            bundle = home / "storage/overlay-containers" / container_id / "userdata"
            bundle.mkdir(parents=True)
            # The worst for a parser: a value for each few bytes.
            config = {"annotations": annotations, "filler": [[] for _ in range(padding // 4)]}
            (bundle / "config.json").write_text(json.dumps(config), encoding="ascii")
            subprocess.run(["chown", "--recursive", f"{_NOBODY}", home], check=True)
            words = ("-c", container_id, "-b", str(bundle), "-n", "coredns")
            process = stack.enter_context(
                subprocess.Popen([*_AS_NOBODY, conmon, *words], env={}, cwd="/")
            )
            stack.callback(process.kill)
        yield


class _Watchdog:
    """The service manager's side of the watchdog: when keep-alives came."""

    def __init__(self, address: Path, manager: socket.socket) -> None:
        self.environ = {
            "NOTIFY_SOCKET": str(address),
            "WATCHDOG_USEC": str(int(_WATCHDOG_S * 1e6)),
        }
        self._times = [time.monotonic()]
        self._manager = manager
        threading.Thread(target=self._receive, daemon=True).start()

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[_Watchdog]:
        """Listen on a socket in ``folder``."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            address = folder / "notify"
            manager.bind(str(address))
            yield cls(address, manager)

    def _receive(self) -> None:
        try:
            while message := self._manager.recv(4096):
                if b"WATCHDOG=1" in message:
                    self._times.append(time.monotonic())
        except OSError:
            pass

    def longest_gap_s(self) -> float:
        """Return the longest time without a keep-alive, until now."""
        times = [*self._times, time.monotonic()]
        return max(after - before for before, after in pairwise(times))
