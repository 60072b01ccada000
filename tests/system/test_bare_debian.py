"""``pip install`` of the wheel on a bare Debian: Python with venv, no libbpf, no compiler."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pytest

from tests.testlib.command import run_command
from tests.testlib.debian.chroot import chroot
from tests.testlib.debian.roots import debian_root
from tests.testlib.distribution import built_wheel, downloaded_requirements
from tests.testlib.kernel.oracle import KernelLog

pytestmark = [pytest.mark.slow, pytest.mark.root]

LIMIT_S = 300.0
ABSENT = ("lib/**/libbpf*", "bin/clang*", "bin/gcc*", "bin/cc")
COMMANDS = {
    "demo": "otel-oom demo --json",
    "doctor": "otel-oom doctor --json || [ $? = 1 ]",
    "packages": "pip list --format json",
    "grpc": "OTEL_EXPORTER_OTLP_PROTOCOL=grpc otel-oom run 2>&1 || [ $? = 2 ]",
}


@dataclass(frozen=True)
class Debian:
    """A suite, and one of its interpreters."""

    suite: str
    python: str
    packages: tuple[str, ...]


SUITES = (
    Debian("bookworm", "3.11", ("python3-venv",)),
    Debian("trixie", "3.13", ("python3-venv",)),
    Debian("forky", "3.14", ("python3-venv", "python3.15-venv")),
    Debian("forky", "3.15", ("python3-venv", "python3.15-venv")),
)
"""Every Python from 3.11 on that a suite has."""


@dataclass(frozen=True)
class Installed:
    """What the commands of one installation printed, and what the kernel logged meanwhile."""

    outputs: Mapping[str, str]
    killed_pids: AbstractSet[int]


@pytest.fixture(scope="module", params=SUITES, ids=lambda each: f"{each.suite}-{each.python}")
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, real_kills: None
) -> Installed:
    """Install the wheel in a copy of a root, and run its commands there."""
    del real_kills
    debian: Debian = request.param
    root = debian_root(debian.suite, *debian.packages)
    assert [path for name in ABSENT for path in root.glob(f"usr/{name}")] == []
    requirements, wheel = downloaded_requirements(debian.python), built_wheel()
    work = tmp_path_factory.mktemp("root")
    prefix = chroot(
        root,
        work,
        f"mount --bind {requirements} {work}/root/mnt",
        f"cp {wheel} {work}/root/tmp",
    )
    script = [
        f"python{debian.python} -m venv /opt/otel-oom",
        "PATH=/opt/otel-oom/bin:$PATH",
        "pip -q install --no-index --find-links /mnt /tmp/otel_oom-*.whl >&2",
        *(f"{{ {command}; }} >/tmp/{name}" for name, command in COMMANDS.items()),
        f"cd /tmp && head -c -0 {' '.join(COMMANDS)}",
    ]
    with KernelLog() as log:
        done = run_command([*prefix, "sh", "-ec", "\n".join(script)], limit_s=LIMIT_S)
        killed = {kill.pid for kill in log.read_killed_lines()}
    assert done.code == 0, done
    _, *cells = re.split(r"(?m)^==> (\w+) <==\n", done.out)
    return Installed(dict(zip(cells[::2], cells[1::2], strict=True)), killed)


def test_the_demo_shows_a_real_kill(installed: Installed) -> None:
    """Its victim is in the kernel's log."""
    exported, _ = map(json.loads, installed.outputs["demo"].split("\n", 1))
    (record,) = exported["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    values = {item["key"]: next(iter(item["value"].values())) for item in record["attributes"]}
    assert record["eventName"] == "oom.kill"
    assert int(values["process.pid"]) in installed.killed_pids


def test_the_library_is_that_of_the_wheel(installed: Installed) -> None:
    """There is no other, and the programs attach by it."""
    checks = {check["name"]: check for check in json.loads(installed.outputs["doctor"])["checks"]}
    assert (checks["libbpf"]["state"], checks["libbpf"]["detail"]) == ("ok", "v1.7")
    assert checks["hook"]["state"] == "ok"


def test_the_base_has_neither_grpc_nor_zstd(installed: Installed) -> None:
    """They are extras."""
    packages = {item["name"].lower() for item in json.loads(installed.outputs["packages"])}
    assert {"otel-oom", "opentelemetry-sdk", "tenacity"} <= packages
    assert packages & {"grpcio", "requests", "zstandard"} == set()


def test_grpc_without_its_package_names_the_extra(installed: Installed) -> None:
    assert installed.outputs["grpc"] == (
        "otel-oom: OTLP/gRPC for logs needs a package that is not installed: run pip install "
        "'otel-oom[grpc]', or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf.\n"
    )
