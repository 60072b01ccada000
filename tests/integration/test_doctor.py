"""``otel-oom doctor`` on a host where all is well, and where something is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_oom import __version__
from otel_oom.commands.demo.receiver import Receiver, Reply
from tests.testlib.command import CompletedCommand, mount_namespace, run_otel_oom
from tests.testlib.process import LOOPBACK, free_port
from tests.testlib.require import require
from tests.testlib.servers.backend import Backend
from tests.testlib.servers.metrics import MetricsBackend

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def checks(done: CompletedCommand) -> dict[str, Any]:
    assert done.err == ""
    return {check["name"]: check for check in json.loads(done.out)["checks"]}


@pytest.mark.usefixtures("real_kills")
def test_all_is_well() -> None:
    panic = Path("/proc/sys/vm/panic_on_oom").read_text(encoding="ascii")
    require(panic.strip() == "0", "this kernel is set to panic on OOM")
    backend = Backend()
    with Receiver(backend) as receiver:
        env, prefix = {ENDPOINT: receiver.url}, mount_namespace("mount -t bpf none /sys/fs/bpf")
        as_json = run_otel_oom("doctor", "--json", env=env, prefix=prefix)
        on_screen = run_otel_oom("doctor", env=env, prefix=prefix)
    assert (as_json.code, on_screen.code, on_screen.err) == (0, 0, "")
    report = json.loads(as_json.out)
    assert (report["version"], report["ok"]) == (__version__, True)
    assert {"hook", "BTF", "libbpf", "bpffs", "logs endpoint", "traces endpoint"} <= set(
        checks(as_json)
    )
    assert [f for f in report["checks"] if f["state"] != "ok" or f["advice"]] == []
    lines = [f"✓ {f['name']}: {f['detail']}" for f in report["checks"]]
    assert on_screen.out.splitlines()[: len(lines)] == lines
    assert "Next victims, if the host ran out of memory now" in on_screen.out
    assert {"pid", "oom_score", "cgroup"} <= report["prediction"]["victims"][0].keys()
    assert (backend.logs, backend.spans) == ([], [])


@pytest.mark.root
def test_a_missing_bpffs_is_a_warning() -> None:
    done = run_otel_oom(
        "doctor", "--json", prefix=mount_namespace("mount -t tmpfs none /sys/fs/bpf")
    )
    bpffs = checks(done)["bpffs"]
    assert bpffs["state"] == "warn"
    assert "mount -t bpf bpf /sys/fs/bpf" in bpffs["advice"]


@pytest.mark.root
def test_missing_memory_cgroups_are_a_warning() -> None:
    done = run_otel_oom(
        "doctor", "--json", prefix=mount_namespace("mount -t tmpfs none /sys/fs/cgroup")
    )
    memcg = checks(done)["memory cgroups"]
    assert memcg["state"] == "warn"
    assert "Limits and usage of cgroups will be missing" in memcg["advice"]


def test_an_endpoint_that_is_down_is_a_failure() -> None:
    endpoint = f"http://me:s3cret@{LOOPBACK}:{free_port()}"
    done = run_otel_oom("doctor", "--json", env={ENDPOINT: endpoint})
    assert done.code == 1
    for signal in ("logs", "traces"):
        check = checks(done)[f"{signal} endpoint"]
        assert check["state"] == "fail"
        assert "(http/protobuf): " in check["detail"]
        assert "refused" in check["detail"]
        assert ENDPOINT in check["advice"]
    assert "s3cret" not in done.out


def test_an_endpoint_that_rejects_is_a_failure() -> None:
    with Receiver(Backend(lambda: Reply(401))) as receiver:
        done = run_otel_oom("doctor", "--json", env={ENDPOINT: receiver.url})
    assert done.code == 1
    assert "401" in checks(done)["logs endpoint"]["detail"]
    assert "credentials" in checks(done)["logs endpoint"]["advice"]


def test_disabled_sending_is_a_warning() -> None:
    found = checks(run_otel_oom("doctor", "--json", env={"OTEL_SDK_DISABLED": "true"}))
    assert found["settings"]["state"] == "warn"
    assert "OTEL_SDK_DISABLED" in found["settings"]["detail"]
    assert "logs endpoint" not in found


@pytest.mark.usefixtures("real_kills")
def test_a_timeout_in_milliseconds_is_a_warning() -> None:
    with Receiver(lambda _: None) as receiver:
        env = {ENDPOINT: receiver.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "10000"}
        done = run_otel_oom("doctor", "--json", env=env)
    endpoint = checks(done)["logs endpoint"]
    assert endpoint["state"] == "warn"
    assert "OTEL_EXPORTER_OTLP_TIMEOUT is in seconds" in endpoint["advice"]


def test_a_backend_without_metrics_is_a_warning() -> None:
    backend = MetricsBackend(answer=lambda: Reply(404))
    with Receiver(backend) as receiver:
        env = {ENDPOINT: receiver.url}
        found = checks(run_otel_oom("doctor", "--json", env=env))
        off = {**env, "OTEL_METRICS_EXPORTER": "none"}
        without = checks(run_otel_oom("doctor", "--json", env=off))
    assert found["metrics endpoint"]["state"] == "warn"
    assert "OTEL_METRICS_EXPORTER=none" in found["metrics endpoint"]["advice"]
    assert found["logs endpoint"]["state"] == "ok"
    assert without["metrics endpoint"]["state"] == "ok"


@pytest.mark.usefixtures("real_kills")
def test_the_selected_source_has_a_reason() -> None:
    best = checks(run_otel_oom("doctor", "--json"))["source"]
    assert (best["state"], best["detail"].partition(",")[0]) == ("ok", "libbpf")
    no_btf = mount_namespace("mount -t tmpfs none /sys/kernel/btf")
    second = checks(run_otel_oom("doctor", "--json", prefix=no_btf))["source"]
    assert second["detail"].startswith(
        "kmsg, because libbpf is unavailable: This kernel has no BTF"
    )


@pytest.mark.root
def test_userspace_oom_daemons_are_named() -> None:
    units = "/run/systemd/system"
    unit = ("mount -t tmpfs none /run", f"mkdir -p {units}", f"touch {units}/earlyoom.service")
    found = checks(run_otel_oom("doctor", "--json", prefix=mount_namespace(*unit)))[
        "userspace OOM daemons"
    ]
    assert (found["state"], "earlyoom" in found["detail"]) == ("ok", True)
    hidden = mount_namespace(*unit, 'mount --bind /dev/null "$(command -v journalctl)"')
    found = checks(run_otel_oom("doctor", "--json", prefix=hidden))["userspace OOM daemons"]
    assert found["state"] == "warn"
    assert "install journalctl" in found["advice"]
